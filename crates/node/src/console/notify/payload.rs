//! The form of a message for each kind of receiver.

use super::{occasion, Kind, News, Target};
use crate::audit::Order;
use crate::console::api::rfc3339;
use base64::Engine;
use hmac::{Hmac, KeyInit, Mac};
use serde_json::{json, Value};
use sha2::Sha256;
use trivet_observe::catalogue::rule;
use trivet_observe::export::{actions, cause};
use trivet_observe::incidents::{Incident, Member, Message};
use trivet_observe::{Language, RuleId};

/// Bytes of a message's text: the limit of WeCom's robots, used for all receivers.
const TEXT_BYTES_MAX: usize = 3_500;
/// Alerts of an incident in one webhook; `truncatedAlerts` counts the others.
const ALERTS_MAX: usize = 50;

fn tr(l: Language, en: &'static str, zh: &'static str) -> &'static str {
    match l {
        Language::En => en,
        Language::Zh => zh,
    }
}

pub(super) fn subject(t: &Target, news: &News, cluster: &str) -> String {
    let l = t.language;
    match news {
        News::Incident(m) => {
            format!("[Trivet {cluster}] {}: {}", occasion(m.occasion, l), m.incident.headline.get(l))
        }
        News::Audit(Order { by, what, outcome, .. }) => format!("[Trivet {cluster}] {by}: {what} ({outcome})"),
        News::Alive => format!("[Trivet {cluster}] {}", tr(l, "alerting is alive", "告警通道正常")),
        News::Test => format!("[Trivet {cluster}] {}", tr(l, "test message", "测试消息")),
    }
}

fn cut(mut text: String) -> String {
    if text.len() > TEXT_BYTES_MAX {
        let mut at = TEXT_BYTES_MAX;
        while !text.is_char_boundary(at) {
            at -= 1;
        }
        text.truncate(at);
        text.push('…');
    }
    text
}

pub(super) fn text(t: &Target, news: &News, cluster: &str) -> String {
    let l = t.language;
    let News::Incident(m) = news else { return subject(t, news, cluster) };
    let i = &m.incident;
    let mut lines = vec![subject(t, news, cluster)];
    lines.push(format!("{}: {}", tr(l, "Severity", "级别"), i.severity.text().get(l)));
    lines.push(format!("{}: {}", tr(l, "Cause", "原因"), cause(i, l).0));
    lines.push(format!("{}: {}", tr(l, "Since", "开始"), rfc3339(i.opened_ms)));
    if let Some(at) = i.closed_ms {
        lines.push(format!("{}: {}", tr(l, "Until", "结束"), rfc3339(at)));
    }
    lines.push(format!("{}: {} ({})", tr(l, "Alerts", "告警"), i.members.len(), i.occurrences()));
    if !i.affected.is_empty() {
        let all: Vec<String> = i.affected.iter().take(10).map(|a| a.get(l)).collect();
        lines.push(format!("{}: {}", tr(l, "Affected", "受影响"), all.join(", ")));
    }
    if i.is_open() {
        lines.extend(actions(i, l).into_iter().take(3).map(|a| format!("- {a}")));
    }
    if !t.console.is_empty() {
        lines.push(format!("{}/incidents/{}", t.console.trim_end_matches('/'), i.id));
    }
    cut(lines.join("\n"))
}

/// Where a message goes and what is posted there.
pub(super) fn request(t: &Target, news: &News, cluster: &str, now_ms: i64) -> (String, Value) {
    match t.kind {
        Kind::Webhook => (t.url.clone(), alertmanager(t, news, cluster, now_ms)),
        Kind::Wecom => (t.url.clone(), json!({ "msgtype": "text", "text": { "content": text(t, news, cluster) } })),
        Kind::Dingtalk => {
            let mut url = t.url.clone();
            if !t.secret.is_empty() {
                let signed = code(t.secret.as_bytes(), format!("{now_ms}\n{}", t.secret).as_bytes());
                let escaped = signed.replace('+', "%2B").replace('/', "%2F").replace('=', "%3D");
                url += &format!("&timestamp={now_ms}&sign={escaped}");
            }
            (url, json!({ "msgtype": "text", "text": { "content": text(t, news, cluster) } }))
        }
        Kind::Feishu => {
            let mut body = json!({ "msg_type": "text", "content": { "text": text(t, news, cluster) } });
            if !t.secret.is_empty() {
                let time = now_ms / 1000;
                // The key is time and secret, and the message is empty.
                let signed = code(format!("{time}\n{}", t.secret).as_bytes(), b"");
                body["timestamp"] = time.to_string().into();
                body["sign"] = signed.into();
            }
            (t.url.clone(), body)
        }
        Kind::Email | Kind::Syslog => (String::new(), Value::Null),
    }
}

fn code(key: &[u8], message: &[u8]) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("any length will do");
    mac.update(message);
    base64::engine::general_purpose::STANDARD.encode(mac.finalize().into_bytes())
}

/// The robots answer 200 whatever they think of a message, and say it in the body.
pub(super) fn accepted(kind: Kind, answer: &[u8]) -> Result<(), String> {
    if !matches!(kind, Kind::Wecom | Kind::Dingtalk | Kind::Feishu) {
        return Ok(());
    }
    let v: Value = serde_json::from_slice(answer).map_err(|e| format!("the answer is not JSON: {e}"))?;
    let code = ["errcode", "code", "StatusCode"].iter().find_map(|k| v[*k].as_i64());
    match code {
        Some(0) => Ok(()),
        _ => Err(format!("refused: {}", v.to_string().chars().take(200).collect::<String>())),
    }
}

fn member(t: &Target, fingerprint: &str, m: &Member, i: &Incident) -> Value {
    let (l, r) = (t.language, rule(m.rule));
    let mut labels = serde_json::Map::new();
    labels.insert("alertname".into(), r.name.into());
    labels.insert("severity".into(), m.severity.name().into());
    for (k, v) in m.subject.labels() {
        labels.insert(k.into(), v.into());
    }
    let ended = m.resolved_ms.map_or("0001-01-01T00:00:00Z".to_string(), rfc3339);
    json!({
        "status": if m.resolved_ms.is_some() { "resolved" } else { "firing" },
        "labels": labels,
        "annotations": { "summary": r.title.get(l), "description": m.reason.get(l), "action": r.action.get(l) },
        "startsAt": rfc3339(m.first_ms),
        "endsAt": ended,
        "generatorURL": format!("{}/incidents/{}", t.console.trim_end_matches('/'), i.id),
        "fingerprint": fingerprint,
    })
}

/// The payload of Alertmanager's webhooks, version 4.
fn alertmanager(t: &Target, news: &News, cluster: &str, now_ms: i64) -> Value {
    let l = t.language;
    let (status, alerts, left_out, group, annotations) = match news {
        News::Incident(m) => {
            let Message { occasion: o, incident: i } = m.as_ref();
            // Firing alerts come before resolved ones.
            let mut members: Vec<_> = i.members.iter().collect();
            members.sort_by_key(|(_, m)| (m.resolved_ms.is_some(), std::cmp::Reverse(m.severity)));
            let alerts: Vec<Value> = members.iter().take(ALERTS_MAX).map(|(f, m)| member(t, f, m, i)).collect();
            let left_out = members.len().saturating_sub(ALERTS_MAX) as u64 + i.left_out;
            let annotations = json!({
                "summary": i.headline.get(l), "occasion": occasion(*o, l), "cause": cause(i, l).0,
            });
            (
                if i.is_open() { "firing" } else { "resolved" },
                alerts,
                left_out,
                json!({ "incident": i.id, "cluster": cluster }),
                annotations,
            )
        }
        News::Alive | News::Test | News::Audit(_) => {
            let r = rule(RuleId::Watchdog);
            let summary = subject(t, news, cluster);
            let alert = json!({
                "status": "firing",
                "labels": { "alertname": r.name, "severity": r.severity.name() },
                "annotations": { "summary": summary },
                "startsAt": rfc3339(now_ms),
                "endsAt": "0001-01-01T00:00:00Z",
                "generatorURL": t.console,
                "fingerprint": trivet_observe::alerts::fingerprint(r.id, &trivet_observe::Subject::Cluster),
            });
            (
                "firing",
                vec![alert],
                0,
                json!({ "alertname": r.name, "cluster": cluster }),
                json!({ "summary": summary }),
            )
        }
    };
    let severity = match news {
        News::Incident(m) => m.incident.severity.name(),
        _ => "info",
    };
    json!({
        "version": "4",
        "groupKey": format!("{{}}:{group}"),
        "truncatedAlerts": left_out,
        "status": status,
        "receiver": t.name,
        "groupLabels": group,
        "commonLabels": { "severity": severity, "cluster": cluster },
        "commonAnnotations": annotations,
        "externalURL": t.console,
        "alerts": alerts,
    })
}
