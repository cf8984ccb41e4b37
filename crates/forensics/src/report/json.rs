//! `trivet.timeline/1`. Its schema is `docs/schemas/timeline.schema.json`.

use super::{blind_spots, names, words, Lang};
use crate::nodes::Place;
use crate::story::{Role, NOBODY};
use crate::time;
use crate::verdict::{Hypothesis, Scored};
use crate::Analysis;
use serde_json::{json, Value};

/// The whole analysis as JSON, for programs: field names and words of kinds stay the same in every language.
pub fn json(a: &Analysis) -> Value {
    let story = &a.story;
    let long = |at: time::LogMillis| time::long(at) + &a.zone;
    let place = |p: &Place| json!({"file": a.files.get(p.file as usize), "line": p.line});
    let places = |all: &[Place]| all.iter().map(place).collect::<Vec<_>>();
    let named = names(story);
    let name = |id: u32| named.get(&id).cloned().unwrap_or_else(|| id.to_string());
    let both = |text: &dyn Fn(Lang) -> String| json!({"en": text(Lang::English), "zh": text(Lang::Chinese)});
    let roles = story.roles.iter().map(|r| {
        let role = match r.role {
            Role::None => "none",
            Role::Follower => "follower",
            Role::Leader => "leader",
        };
        json!({"node": r.node, "from": long(r.from), "to": r.to.map(&long), "role": role, "epoch": r.epoch})
    });
    let quorum = story.quorum.iter().map(|w| {
        json!({"from": long(w.from), "to": w.to.map(&long), "leader": w.leader, "epoch": w.epoch,
               "followers": w.followers, "resumed": w.resumed, "evidence": [place(&w.began)]})
    });
    let outages = story.outages.iter().map(|o| {
        let evidence: Vec<Value> = o.evidence().iter().map(&place).collect();
        let cause = o.lost.last().map(|l| words::cause(Lang::English, l.1));
        json!({"from": long(o.seen), "from_earliest": long(o.from), "to": o.to.map(&long),
               "leader": (o.leader != NOBODY).then_some(o.leader), "known_until": o.known_until.map(&long), "cause": cause, "what": words::what(Lang::English, o.what),
               "lost_by": o.lost.iter().map(|l| l.0).collect::<Vec<_>>(), "evidence": evidence})
    });
    let nodes = story.servers.iter().map(|id| {
        let clock = a.offsets.get(id);
        json!({"id": id, "address": story.addresses.get(id), "version": story.versions.get(id), "log": story.read.contains(id),
               "clock_offset_s": clock.map(|o| o.ms as f64 / 1e3), "clock_error_s": clock.map(|o| o.error_ms as f64 / 1e3)})
    });
    let links = a.late.iter().map(|l| {
        let state = if l.one_way { "late, one way" } else { "late" };
        json!({"from": l.from, "to": l.to, "plane": "election", "state": state, "since": long(l.since),
               "until": long(l.until), "evidence": places(&l.evidence)})
    });
    let silent = a.silent.iter().map(|l| {
        json!({"from": l.from, "to": l.to, "plane": "quorum", "state": "silent", "since": long(l.since),
               "until": long(l.until), "evidence": [place(&l.evidence)]})
    });
    let late = a.late.iter().map(|l| {
        json!({"kind": "late votes", "nodes": [l.from, l.to], "confidence": if l.one_way { "high" } else { "medium" },
               "text": both(&|lang| words::late(lang, l, &name)), "evidence": places(&l.evidence)})
    });
    let lost_votes = a.lost.iter().map(|l| {
        json!({"kind": "lost votes", "nodes": [l.from, l.to], "confidence": if l.outages > 1 { "high" } else { "medium" },
               "text": both(&|lang| words::lost(lang, l, &name)), "evidence": places(&l.evidence)})
    });
    let unheard = a.unheard.iter().map(|u| {
        json!({"kind": "leader not heard", "nodes": [u.looking, u.leader, u.told_by], "confidence": "high",
               "text": both(&|lang| words::unheard(lang, u, &name)), "evidence": places(&u.evidence)})
    });
    let departures = story.departures.iter().map(|d| {
        let nodes: Vec<u32> = [d.node].into_iter().chain(d.leader).collect();
        let text = |lang| words::departure(lang, d, &name);
        json!({"kind": "lost its leader", "nodes": nodes, "confidence": if d.leader.is_some() { "high" } else { "medium" },
               "text": both(&text), "evidence": [place(&d.place)]})
    });
    let stalls = story.stalls.iter().map(|(node, _, ms, thing, at)| {
        json!({"kind": format!("{thing} stood still"), "nodes": [node], "confidence": "high",
               "text": both(&|lang| words::stall(lang, &name(*node), thing, *ms)), "evidence": [place(at)]})
    });
    let stated = story.causes.iter().map(|c| {
        json!({"kind": c.cause.row().kind, "nodes": [c.node], "confidence": "high",
               "text": both(&|lang| words::stated(lang, c, &name)), "to_do": both(&|lang| c.cause.advice(lang).into()),
               "evidence": places(&c.evidence)})
    });
    let restarts = story.restarts.iter().map(|r| {
        json!({"kind": "restart", "nodes": [r.node], "confidence": "high",
               "text": both(&|lang| words::restart(lang, r, &name(r.node))), "evidence": [place(&r.place)]})
    });
    let again = super::restarts::again_and_again(story);
    let again = again.iter().map(|row| {
        json!({"kind": "restarts again and again", "nodes": [row[0].node], "confidence": "high",
               "text": both(&|lang| words::again_and_again(lang, row, &name(row[0].node))),
               "evidence": places(&row.iter().map(|r| r.place).collect::<Vec<_>>())})
    });
    let rolling = super::rolling(story);
    let rolling = (!rolling.is_empty()).then(|| {
        let text = |lang| words::rolling(lang, &rolling.iter().map(|r| (name(r.node), words::seconds(r.at - r.since()))).collect::<Vec<_>>());
        json!({"kind": "rolling restart", "nodes": rolling.iter().map(|r| r.node).collect::<Vec<_>>(), "confidence": "high",
               "text": both(&text), "evidence": places(&rolling.iter().map(|r| r.place).collect::<Vec<_>>())})
    });
    let expired = story.expired.iter().map(|(node, _, count, at)| {
        json!({"kind": "sessions expired", "nodes": [node], "confidence": "high",
               "text": both(&|lang| words::expired(lang, &name(*node), *count)), "evidence": [place(at)]})
    });
    let stale = story.stale.iter().map(|t| {
        json!({"kind": "stale leader", "nodes": [t.0], "confidence": "high",
               "text": both(&|lang| words::stale(lang, t, &name)), "evidence": [place(&t.4)]})
    });
    let verdict = verdict(a, &name);
    let (en, zh) = (blind_spots(a, Lang::English), blind_spots(a, Lang::Chinese));
    let blind = en.iter().zip(&zh).map(|(en, zh)| json!({"en": en, "zh": zh}));
    json!({
        "schema": "trivet.timeline/1",
        "nodes": nodes.collect::<Vec<_>>(),
        "roles": roles.collect::<Vec<_>>(),
        "quorum": quorum.collect::<Vec<_>>(),
        "outages": outages.collect::<Vec<_>>(),
        "links": links.chain(silent).collect::<Vec<_>>(),
        "findings": late.chain(lost_votes).chain(unheard).chain(departures).chain(stalls).chain(stale).chain(stated).chain(restarts).chain(again).chain(rolling).chain(expired).collect::<Vec<_>>(),
        "verdict": verdict,
        "blind_spots": blind.collect::<Vec<_>>(),
        "site": a.site.iter().map(|e| json!({"at": time::long(e.at) + if e.aligned { a.zone.as_str() } else { "" }, "host": e.host, "object": e.object,
            "aligned": e.aligned, "text": both(&|lang| e.told(lang)), "evidence": [place(&e.place)]})).collect::<Vec<_>>(),
        "own": story.notes.iter().map(|n| json!({"at": long(n.at), "node": n.node, "subject": n.subject,
            "text": both(&|lang| n.told(lang, &name(n.node))), "evidence": places(&n.evidence)})).collect::<Vec<_>>(),
        "chains": story.outages.iter().filter_map(|o| {
            let text = |lang| super::chain::text(o, a, lang).unwrap_or_default();
            (!super::chain::links(o, a).is_empty()).then(|| both(&text))
        }).collect::<Vec<_>>(),
        "remarks": a.remarks.iter().map(|r| json!({"at": long(r.0), "text": r.1, "evidence": [place(&r.2)]})).collect::<Vec<_>>(),
        "complaints": a.complaints.iter().map(|c| both(&|lang| c.text(lang))).collect::<Vec<_>>(),
    })
}

/// The most likely cause, and the causes that the logs state themselves.
fn verdict(a: &Analysis, name: &dyn Fn(u32) -> String) -> Value {
    let story = &a.story;
    let both = |text: &dyn Fn(Lang) -> String| json!({"en": text(Lang::English), "zh": text(Lang::Chinese)});
    let one = |s: &Scored| {
        json!({"hypothesis": s.hypothesis.kind(), "nodes": s.hypothesis.servers(), "support": s.support,
               "contradicted": s.contradicted})
    };
    let best = a.verdict.best.as_ref();
    json!({
        "hypothesis": best.map_or("undecided", |b| b.hypothesis.kind()),
        "nodes": best.map(|b| b.hypothesis.servers()).unwrap_or_default(),
        "links": links_of(best, &story.servers),
        "support": best.map_or(0, |b| b.support),
        "contradicted": best.map_or(0, |b| b.contradicted),
        "runner_up": a.verdict.runner_up.as_ref().map(one),
        "stated": super::stated_causes(story).iter().map(|(cause, nodes)| json!({"kind": cause.row().kind, "nodes": nodes})).collect::<Vec<_>>(),
        "text": both(&|lang| words::verdict(lang, &a.verdict, name) + &super::stated_in(story, lang, name)),
    })
}

fn links_of(best: Option<&Scored>, servers: &std::collections::BTreeSet<u32>) -> Vec<Value> {
    let way = |a: u32, b: u32| json!({"from": a, "to": b});
    let others = |n: u32| servers.iter().copied().filter(move |m| *m != n);
    match best.map(|b| b.hypothesis) {
        Some(Hypothesis::OneWay(a, b)) => vec![way(a, b)],
        Some(Hypothesis::Link(a, b)) => vec![way(a, b), way(b, a)],
        Some(Hypothesis::Outgoing(n)) => others(n).map(|m| way(n, m)).collect(),
        Some(Hypothesis::Incoming(n)) => others(n).map(|m| way(m, n)).collect(),
        _ => Vec::new(),
    }
}
