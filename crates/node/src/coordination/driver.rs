//! The driver of the coordination core: feeds inputs, hands effects to the ports, and that is all.
//!
//! Everything that owns the core runs on one thread (a tokio runtime of its own), so that load on
//! other roles cannot delay a heartbeat. Blocking things (the disk) run on plain threads and report
//! through one bounded channel.

use super::audit::AuditLog;
use super::busy_poll::BusyPoll;
use super::disk_queue::ToDisk;
use super::handle::Status;
use super::inbox::{Core, Inbox, Message};
use super::listen;
use super::machine::{with_folders, HostInfo};
use super::member_lookup::Lists;
use super::ports::{ClientPort, ElectionPort, QuorumPort};
use super::settings::Settings;
use super::stream::Speaks;
use crate::clock::{wall_ms, Clock};
use std::cell::{Cell, OnceCell, RefCell};
use std::net::TcpListener;
use std::rc::{Rc, Weak};
use std::time::Duration;
use tokio::sync::{mpsc, Notify};
use trivet_coordination::{ConnId, Effect, Event, Image, Input, LinkId, Now, OpenRequests, Server};

/// How often the core's deadline is looked at while there is much to do, in milliseconds.
const TIMER_STEP_MS: u64 = 5;
/// How often the status is renewed, in milliseconds; without anything to do the thread sleeps no longer than this.
const STATUS_STEP_MS: u64 = 100;
/// Messages of other threads that are handled in one turn.
const MESSAGES_AT_ONCE_MAX: usize = 512;

/// The parts that a start hands to the driver.
pub(super) struct Parts {
    pub(super) server: Server,
    pub(super) clock: Clock,
    pub(super) host: HostInfo,
    pub(super) disk: ToDisk,
    pub(super) members: Lists,
    pub(super) on_event: Box<dyn Fn(&Event)>,
}

/// The core, and the memory for the effects of an input.
struct Driven {
    server: Server,
    effects: Vec<Effect>,
}

/// Owns the core and routes what it wants.
pub(super) struct Driver {
    core: RefCell<Driven>,
    clock: Clock,
    clients: Rc<ClientPort>,
    quorum: Rc<QuorumPort>,
    /// None for a server that is alone.
    election: Option<Rc<ElectionPort>>,
    disk: ToDisk,
    members: Lists,
    busy_poll: BusyPoll,
    /// When the timer looks next, by the clock of the core.
    look_at: Cell<u64>,
    /// Wakes the timer, which has to look earlier.
    sooner: Notify,
    on_event: Box<dyn Fn(&Event)>,
    /// Begun with the first line.
    audit: OnceCell<AuditLog>,
}

impl Driver {
    /// Opens the ports, on the role's thread. Their tasks run when the caller waits for something.
    pub(super) fn new(
        parts: Parts,
        settings: &Settings,
        messages: mpsc::Sender<Message>,
        election: Option<listen::Bound>,
    ) -> Rc<Driver> {
        let Parts { server, clock, host, disk, members, on_event } = parts;
        Rc::new_cyclic(|driver: &Weak<Driver>| {
            let inbox = Inbox::new(driver.clone());
            Driver {
                core: RefCell::new(Driven { server, effects: Vec::new() }),
                clock,
                clients: ClientPort::new(inbox.clone(), settings, host),
                quorum: QuorumPort::new(inbox.clone(), settings, messages),
                election: election.map(|bound| ElectionPort::start(inbox, settings, bound)),
                disk,
                members,
                busy_poll: BusyPoll::default(),
                look_at: Cell::new(0),
                sooner: Notify::new(),
                on_event,
                audit: OnceCell::new(),
            }
        })
    }

    pub(super) fn accept_clients(&self, listeners: Vec<(TcpListener, Speaks)>) {
        self.clients.serve(listeners);
    }

    /// Feeds the core until the role is told to stop.
    pub(super) async fn run(self: Rc<Self>, mut messages: mpsc::Receiver<Message>, status: Status) {
        self.drive(Server::start);
        let polling = self.clone();
        tokio::task::spawn_local(async move { polling.busy_poll.run().await });
        let timer = tokio::time::sleep(Duration::ZERO);
        tokio::pin!(timer);
        let mut batch = Vec::new();
        let mut status_at = 0;
        loop {
            tokio::select! {
                n = messages.recv_many(&mut batch, MESSAGES_AT_ONCE_MAX) => {
                    if n == 0 {
                        return;
                    }
                    for message in batch.drain(..) {
                        match message {
                            Message::Input(input) => self.feed(input),
                            Message::Members(members) => {
                                self.quorum.update(&members);
                                self.election.iter().for_each(|e| e.update(&members));
                            }
                            Message::Monitored(answer) => {
                                let machine = self.clients.host_info(b"mntr");
                                // The caller may have given up waiting.
                                let _ = answer.send(self.core.borrow().server.monitored(&machine));
                            }
                            Message::Word(word, answer) => {
                                let driver = self.clone();
                                tokio::task::spawn_local(async move {
                                    let machine = with_folders(driver.clients.host_info(word), word).await;
                                    let name = std::str::from_utf8(word).unwrap_or_default();
                                    // The caller may have given up waiting.
                                    let _ = answer.send(driver.core.borrow_mut().server.tell_word(name, &machine));
                                });
                            }
                            Message::SessionEnds(answer) => {
                                let _ = answer.send(self.core.borrow().server.session_ends());
                            }
                            Message::JudgeAdmin { scheme, shown, from, answer } => {
                                let server = &self.core.borrow().server;
                                let _ = answer.send(server.judge_admin(&scheme, shown.as_deref(), from));
                            }
                            Message::TakeSnapshot(answer) => {
                                self.feed(Input::TakeSnapshot);
                                let _ = answer.send(self.core.borrow().server.open_snapshot());
                            }
                            Message::Restore { tree, image, answer } => {
                                let zxid = tree.last_zxid();
                                self.feed(Input::Restore { tree, image: Image::Written(image.clone()) });
                                let took = self.core.borrow().server.tree().last_zxid() == zxid;
                                if answer.send(took).is_err() && !took {
                                    // The caller is gone, which would have removed the refused snapshot.
                                    tokio::task::spawn_blocking(move || std::fs::remove_file(image));
                                }
                            }
                            Message::Stop => return,
                        }
                    }
                    continue;
                }
                () = self.sooner.notified() => {}
                () = &mut timer => {
                    self.busy_poll.tick();
                    let now = self.clock.mono_ms();
                    let due = self.core.borrow().server.deadline().is_some_and(|d| d <= now);
                    if due {
                        self.feed(Input::Timer);
                    }
                    if now >= status_at {
                        status_at = now + STATUS_STEP_MS;
                        let server = &self.core.borrow().server;
                        *status.lock() = (server.summary(), server.counters());
                    }
                }
            }
            let now = self.clock.mono_ms();
            let deadline = self.core.borrow().server.deadline().unwrap_or(status_at);
            // A deadline that is over was looked at just now, and is not hurried.
            let soon = self.busy_poll.is_busy() || deadline <= now;
            let wanted = if soon { now + TIMER_STEP_MS } else { deadline.min(status_at) };
            let look_at = wanted.clamp(now + 1, now + STATUS_STEP_MS);
            self.look_at.set(look_at);
            timer.as_mut().reset(tokio::time::Instant::now() + Duration::from_millis(look_at - now));
        }
    }

    fn now(&self) -> Now {
        Now { mono_ms: self.clock.mono_ms(), wall_ms: wall_ms() }
    }

    /// Has the core do something, and carries out what it wants.
    fn drive(&self, step: impl FnOnce(&mut Server, Now, &mut Vec<Effect>)) {
        let mut core = self.core.borrow_mut();
        let Driven { server, effects } = &mut *core;
        let now = self.now();
        step(server, now, effects);
        effects.drain(..).for_each(|effect| self.route(effect));
        self.clients.note_open(server.open_of_all());
        self.busy_poll.note(server.commits(), || server.is_awaited());
        // A timer that looks soon anyway is let be.
        let look_at = self.look_at.get();
        let early = look_at > now.mono_ms + TIMER_STEP_MS
            && (self.busy_poll.is_busy() || server.deadline().is_some_and(|d| d < look_at));
        if early {
            self.look_at.set(0);
            self.sooner.notify_one();
        }
    }

    /// Hands an effect to whom it concerns. Nothing here may feed the core, which is in use.
    fn route(&self, effect: Effect) {
        match effect {
            Effect::Client { conn, bytes } => self.clients.send(conn, bytes),
            Effect::CloseClient(conn) => self.clients.finish(conn),
            Effect::Disk { seq, op, may_wait } => self.disk.push(seq, op, may_wait),
            Effect::Send { link, bytes } => self.quorum.send(link, bytes),
            Effect::SendPart { link, bytes, last } => self.quorum.send_part(link, bytes, last),
            Effect::ReadLog { link, after, upto } => self.quorum.read_log(link, after, upto),
            Effect::Dial { link, leader } => self.quorum.dial(link, leader),
            Effect::DialThrough { link, follower } => self.quorum.dial_through(link, follower),
            Effect::PassObservers(leader) => self.quorum.pass_observers(leader),
            Effect::CloseLink(link) => self.quorum.close(link),
            Effect::FinishLink(link) => self.quorum.finish(link),
            Effect::Listen(begin) => self.quorum.listen(begin),
            Effect::Probe { to, bytes } => self.election.iter().for_each(|e| e.send_probe(to, &bytes)),
            Effect::Vote { to, notification } => {
                self.election.iter().for_each(|e| e.send(to, notification.encode().into()));
            }
            Effect::Members { text, next } => drop(self.members.send((text, next))),
            Effect::Event(event) => (self.on_event)(&event),
            Effect::Audit(line) => self.audit.get_or_init(AuditLog::start).put(line),
        }
    }
}

impl Core for Driver {
    fn feed(&self, input: Input) {
        self.drive(|server, now, effects| server.handle(now, input, effects));
    }
    fn open_requests(&self, conn: ConnId) -> OpenRequests {
        self.core.borrow().server.open_requests(conn)
    }
    fn open_of_all(&self) -> usize {
        self.core.borrow().server.open_of_all()
    }
    fn awaits_snapshot(&self, link: LinkId) -> bool {
        self.core.borrow().server.awaits_snapshot(link)
    }
}
