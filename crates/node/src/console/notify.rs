//! Messages about incidents: webhooks as Alertmanager sends them, e-mail, syslog, and the robots of WeCom, DingTalk and
//! Feishu.
//!
//! A single node sends: the one with metad's LEADER, or without a LEADER the lowest that is alive. The others keep a message
//! for a while and send it if the sender dies meanwhile, so a receiver may get it twice rather than never. Only a receiver's
//! own queue waits for that receiver.

mod http;
mod payload;
mod smtp;
mod syslog;

use crate::audit::Order;
use crate::status::monitor::Monitor;
use parking_lot::Mutex;
use serde::Deserialize;
use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use trivet_observe::incidents::{Message, Occasion};
use trivet_observe::{Language, Severity};

/// A node that does not send holds a message for this long.
const HOLD: Duration = Duration::from_secs(20);
/// Messages that wait for one target; beyond it the oldest is dropped and counted as failed.
const QUEUE_MAX: usize = 50;
/// Messages that one target gets within [`RATE_TIME`]; further ones wait.
const RATE_MAX: usize = 20;
const RATE_TIME: Duration = Duration::from_secs(600);
/// After a failure the next try comes after this, then after twice as long, and so on up to the second.
const RETRY_FIRST: Duration = Duration::from_secs(5);
const RETRY_LAST: Duration = Duration::from_secs(300);
/// A message that could not be sent for this long is dropped, and counted as failed.
const GIVE_UP: Duration = Duration::from_secs(6 * 3_600);
/// Time of a single try, after which it has failed.
const TRY_LIMIT: Duration = Duration::from_secs(10);
/// Time between two checks of the targets' file.
const RELOAD: Duration = Duration::from_secs(10);
/// Targets of one file; further ones are left out, and the log says so.
const TARGETS_MAX: usize = 20;
/// Bytes of the file of targets; a longer one is not read, and the known targets stay.
const FILE_BYTES_MAX: u64 = 64 << 10;

/// The kinds of receivers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A JSON object by HTTP POST.
    Webhook,
    /// Mail by SMTP without TLS.
    Email,
    /// A robot of a WeCom (企业微信) group.
    Wecom,
    /// A robot of a DingTalk (钉钉) group.
    Dingtalk,
    /// A robot of a Feishu (飞书) group, or of Lark.
    Feishu,
    /// Gets what operators did, too.
    Syslog,
}

/// A receiver, as a `[[target]]` of the notifications' file declares it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Target {
    /// The name that the console and `trivet alerts` call it by.
    pub name: String,
    /// The kind, on which the other settings depend.
    pub kind: Kind,
    /// For webhooks and robots: the address that messages are posted to.
    #[serde(default)]
    pub url: String,
    /// The language of messages.
    #[serde(default)]
    pub language: Language,
    /// Incidents below it are not told.
    #[serde(default = "warning")]
    pub severity: Severity,
    /// The key of robots of DingTalk and Feishu that want signed messages.
    #[serde(default)]
    pub secret: String,
    /// For `https`: a PEM file of CAs to trust. Without it and without `thumbprint` the system's CAs are trusted.
    /// used.
    #[serde(default)]
    pub ca: Option<PathBuf>,
    /// For `https`: the SHA-256 of the only accepted certificate.
    #[serde(default)]
    pub thumbprint: Option<String>,
    /// For e-mail: `host:port` of a server that accepts mail without TLS, such as a local relay. For syslog:
    /// `udp://host:port` or `tcp://host:port`.
    #[serde(default)]
    pub server: String,
    /// For e-mail: the sender.
    #[serde(default)]
    pub from: String,
    /// For e-mail: the recipients.
    #[serde(default)]
    pub to: Vec<String>,
    /// Where people find the console, for links.
    #[serde(default)]
    pub console: String,
    /// Minutes between two messages that say only that alerting lives; 0: none.
    #[serde(default)]
    pub watchdog_minutes: u64,
}

fn warning() -> Severity {
    Severity::Warning
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    target: Vec<Target>,
}

/// A message to send: about an incident, or a sign that alerting works.
#[derive(Debug, Clone)]
pub enum News {
    /// An incident began, became worse, or ended.
    Incident(Box<Message>),
    /// An operator changed something on this node.
    Audit(Order),
    /// Alerting works: the regular message of `watchdog_minutes`.
    Alive,
    /// A message that an operator asked for, to try a target.
    Test,
}

struct Waiting {
    news: News,
    since: Instant,
}

/// A target with its queue and its figures.
struct Line {
    target: Target,
    queue: VecDeque<Waiting>,
    sent_at: VecDeque<Instant>,
    next_try: Instant,
    pause: Duration,
    watchdog_at: Instant,
    sent: u64,
    failed: u64,
    last_error: String,
    busy: bool,
}

impl Line {
    fn new(target: Target) -> Line {
        let now = Instant::now();
        Line {
            target,
            queue: VecDeque::new(),
            sent_at: VecDeque::new(),
            next_try: now,
            pause: RETRY_FIRST,
            watchdog_at: now,
            sent: 0,
            failed: 0,
            last_error: String::new(),
            busy: false,
        }
    }
    fn push(&mut self, news: News) {
        if self.queue.len() >= QUEUE_MAX {
            self.queue.pop_front();
            self.failed += 1;
            self.last_error = "too many messages waited; the oldest was given up".into();
        }
        self.queue.push_back(Waiting { news, since: Instant::now() });
    }
    /// The message that goes out now, if one may.
    fn due(&mut self, now: Instant) -> Option<News> {
        while self.sent_at.front().is_some_and(|at| now.duration_since(*at) >= RATE_TIME) {
            self.sent_at.pop_front();
        }
        while self.queue.front().is_some_and(|w| now.duration_since(w.since) >= GIVE_UP) {
            self.queue.pop_front();
            self.failed += 1;
        }
        // A syslog server is made for many messages.
        let rated = self.target.kind != Kind::Syslog && self.sent_at.len() >= RATE_MAX;
        if self.busy || now < self.next_try || rated {
            return None;
        }
        self.queue.front().map(|w| w.news.clone())
    }
    fn done(&mut self, now: Instant, outcome: Result<(), String>) {
        self.busy = false;
        match outcome {
            Ok(()) => {
                self.queue.pop_front();
                self.sent += 1;
                self.sent_at.push_back(now);
                self.pause = RETRY_FIRST;
                self.last_error.clear();
            }
            Err(e) => {
                self.last_error = e;
                self.next_try = now + self.pause;
                self.pause = (self.pause * 2).min(RETRY_LAST);
            }
        }
    }
}

/// A target as the page of settings shows it.
pub struct Shown {
    /// The target's name.
    pub name: String,
    /// The target's kind, in lower case.
    pub kind: String,
    /// Messages that were accepted, since this process started.
    pub sent: u64,
    /// Messages that were given up: tried for too long, or pushed out of a full queue.
    pub failed: u64,
    /// The reason of the last failure; empty after a success.
    pub last_error: String,
}

/// A handle of the tasks that send messages, one for each target.
#[derive(Clone)]
pub struct Notifier {
    lines: Arc<Mutex<Vec<Line>>>,
    cluster: String,
}

impl Notifier {
    /// Begins to send what comes out of `due` to the targets of the file, which may change at any time.
    pub fn start(monitor: Arc<Monitor>, due: mpsc::Receiver<News>) -> Notifier {
        let path = monitor.sources.config.data.join("notifications.toml");
        let cluster = monitor.sources.config.cluster.clone();
        Notifier::start_for(cluster, path, due, move || monitor.is_sender())
    }

    /// The same for a program that is no node. `is_sender`: whether this one sends now.
    pub fn start_for(
        cluster: String,
        path: PathBuf,
        due: mpsc::Receiver<News>,
        is_sender: impl Fn() -> bool + Send + 'static,
    ) -> Notifier {
        let notifier = Notifier { lines: Arc::default(), cluster };
        tokio::spawn(notifier.clone().run(is_sender, due, path));
        notifier
    }

    /// The targets and their counts, in the order of the file.
    pub fn targets(&self) -> Vec<Shown> {
        let lines = self.lines.lock();
        let show = |l: &Line| Shown {
            name: l.target.name.clone(),
            kind: format!("{:?}", l.target.kind).to_lowercase(),
            sent: l.sent,
            failed: l.failed,
            last_error: l.last_error.clone(),
        };
        lines.iter().map(show).collect()
    }

    /// Sends a message that says that it is a test, past the queue.
    ///
    /// # Errors
    /// There is no such target, or it did not take the message.
    pub async fn test(&self, name: &str) -> Result<(), String> {
        let target = {
            let lines = self.lines.lock();
            lines.iter().find(|l| l.target.name == name).map(|l| l.target.clone())
        };
        let target = target.ok_or_else(|| format!("there is no target {name}"))?;
        send(&target, &News::Test, &self.cluster).await
    }

    async fn run(self, is_sender: impl Fn() -> bool, mut due: mpsc::Receiver<News>, path: PathBuf) {
        let mut held: VecDeque<(Instant, Message)> = VecDeque::new();
        let mut looked: Option<Instant> = None;
        let mut seen = None;
        loop {
            if looked.is_none_or(|at| at.elapsed() >= RELOAD) {
                looked = Some(Instant::now());
                self.reload(&path, &mut seen).await;
            }
            while let Ok(news) = due.try_recv() {
                match news {
                    News::Incident(message) => held.push_back((Instant::now(), *message)),
                    // An operator's action on this node is known to no other node, so this node sends it, sender or not.
                    other => self.put_syslog(&other),
                }
            }
            let sender = is_sender();
            if sender {
                for (_, message) in held.drain(..) {
                    self.put(&message);
                }
            } else {
                held.retain(|(since, _)| since.elapsed() < HOLD);
            }
            self.send_due(sender);
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }

    async fn reload(&self, path: &std::path::Path, seen: &mut Option<String>) {
        let file = path.to_path_buf();
        let read = tokio::task::spawn_blocking(move || {
            let long = std::fs::metadata(&file).is_ok_and(|m| m.len() > FILE_BYTES_MAX);
            if long {
                Err(std::io::Error::other("it is too long"))
            } else {
                std::fs::read_to_string(&file)
            }
        });
        let text = match read.await {
            Ok(Ok(text)) => text,
            Ok(Err(e)) if e.kind() == std::io::ErrorKind::NotFound => String::new(),
            Ok(Err(e)) => {
                return tracing::warn!(path = %path.display(), error = %e, "targets of messages cannot be read")
            }
            Err(_) => return,
        };
        if seen.as_ref() == Some(&text) {
            return;
        }
        let parsed = toml::from_str::<File>(&text);
        *seen = Some(text);
        let targets = match parsed {
            Ok(f) => f.target,
            // A file with an error leaves the known targets in place.
            Err(e) => {
                return tracing::warn!(path = %path.display(), error = %e, "targets of messages were not taken over")
            }
        };
        if targets.len() > TARGETS_MAX {
            tracing::warn!("only the first {TARGETS_MAX} targets of messages are used");
        }
        let mut lines = self.lines.lock();
        let mut old = std::mem::take(&mut *lines);
        for target in targets.into_iter().take(TARGETS_MAX) {
            let known = old.iter().position(|l| l.target == target);
            lines.push(known.map_or_else(|| Line::new(target), |at| old.swap_remove(at)));
        }
    }

    fn put_syslog(&self, news: &News) {
        let mut lines = self.lines.lock();
        lines.iter_mut().filter(|l| l.target.kind == Kind::Syslog).for_each(|l| l.push(news.clone()));
    }

    fn put(&self, message: &Message) {
        for line in self.lines.lock().iter_mut() {
            if message.incident.severity >= line.target.severity {
                line.push(News::Incident(Box::new(message.clone())));
            }
        }
    }

    fn send_due(&self, sender: bool) {
        let now = Instant::now();
        let mut lines = self.lines.lock();
        for line in lines.iter_mut() {
            let every = Duration::from_secs(60 * line.target.watchdog_minutes);
            if sender && !every.is_zero() && now.duration_since(line.watchdog_at) >= every {
                line.watchdog_at = now;
                // A waiting sign of life makes another one superfluous.
                if !line.queue.iter().any(|w| matches!(w.news, News::Alive)) {
                    line.push(News::Alive);
                }
            }
            let Some(news) = line.due(now) else { continue };
            line.busy = true;
            let (notifier, target) = (self.clone(), line.target.clone());
            tokio::spawn(async move {
                let outcome = send(&target, &news, &notifier.cluster).await;
                let mut lines = notifier.lines.lock();
                if let Some(line) = lines.iter_mut().find(|l| l.target == target) {
                    line.done(Instant::now(), outcome);
                }
            });
        }
    }
}

async fn send(target: &Target, news: &News, cluster: &str) -> Result<(), String> {
    let sent = async {
        match target.kind {
            Kind::Email => {
                smtp::send(target, &payload::subject(target, news, cluster), &payload::text(target, news, cluster))
                    .await
            }
            Kind::Syslog => {
                let now = crate::clock::wall_ms();
                let text = payload::text(target, news, cluster);
                syslog::send(target, &syslog::message(news, cluster, &text, now)).await
            }
            _ => {
                let (url, body) = payload::request(target, news, cluster, crate::clock::wall_ms());
                let answer =
                    http::post(target, &url, "application/json; charset=utf-8", body.to_string().as_bytes()).await?;
                payload::accepted(target.kind, &answer)
            }
        }
    };
    match tokio::time::timeout(TRY_LIMIT, sent).await {
        Ok(outcome) => outcome,
        Err(_) => Err(format!("no answer within {} s", TRY_LIMIT.as_secs())),
    }
}

/// Title of an occasion.
fn occasion(o: Occasion, l: Language) -> &'static str {
    match (o, l) {
        (Occasion::Opened, Language::En) => "Incident opened",
        (Occasion::Opened, Language::Zh) => "事件开始",
        (Occasion::SeverityRose, Language::En) => "Incident became critical",
        (Occasion::SeverityRose, Language::Zh) => "事件升级为严重",
        (Occasion::CauseRecognised, Language::En) => "Cause recognised",
        (Occasion::CauseRecognised, Language::Zh) => "已识别原因",
        (Occasion::Lasting, Language::En) => "Incident lasts",
        (Occasion::Lasting, Language::Zh) => "事件仍在持续",
        (Occasion::Closed, Language::En) => "Incident over",
        (Occasion::Closed, Language::Zh) => "事件结束",
    }
}

#[cfg(test)]
mod tests;
