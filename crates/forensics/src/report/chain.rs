//! Consequences of an outage, as far as times and names allow it: metad changed its LEADER, addresses left the node that was
//! lost, a host lost a datastore, had all paths down, too few heartbeats, the agent mounted it again, and it was back.

use super::{names as server_names, Lang};
use crate::site::{Kind, SiteEvent};
use crate::story::{Note, Outage, NOBODY};
use crate::time::{self, LogMillis};
use crate::Analysis;
use trivet_events::{AgentStep, Event};

/// After an outage begins, hypervisors notice within this, in milliseconds; ESXi calls a server lost after 125 s.
const NOTICED_MS: i64 = 150_000;
/// From the loss of a datastore to APD's timeout, and vCenter's alarm, this may go by, in milliseconds.
const FOLLOWS_MS: i64 = 300_000;
/// A datastore that is back later than this, in milliseconds, has another reason to be back.
const BACK_MS: i64 = 3_600_000;
/// The quorum's clock and metad's differ by less, in milliseconds.
const CLOCKS_MS: i64 = 500;
/// Addresses whose move is named in one chain; the timeline has all of them.
const MOVES_MAX: usize = 4;

/// A link of the chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Link<'a> {
    Own(&'a Note),
    Site(&'a SiteEvent),
}

impl Link<'_> {
    fn at(&self) -> LogMillis {
        match self {
            Link::Own(n) => n.at,
            Link::Site(e) => e.at,
        }
    }
}

/// The links in the order of their times, without the outage itself.
pub fn links<'a>(outage: &Outage, a: &'a Analysis) -> Vec<Link<'a>> {
    let until = noticed_until(outage, &a.story.outages);
    let mut out: Vec<Link<'a>> = own(outage, until, &a.story.notes).into_iter().map(Link::Own).collect();
    let lost = lost(outage, until, &a.site);
    out.extend(agent(&lost, &a.story.notes).into_iter().map(Link::Own));
    out.extend(lost.iter().copied().chain(followed(&lost, &a.site)).map(Link::Site));
    out.sort_by_key(Link::at);
    out
}

/// The last moment at which somebody notices that an outage was; what is noticed in a later outage is of that one.
fn noticed_until(outage: &Outage, all: &[Outage]) -> LogMillis {
    let end = outage.to.map_or(LogMillis::MAX, |to| to.saturating_add(NOTICED_MS));
    let next = all.iter().map(|o| o.from).filter(|from| *from > outage.from).min();
    next.map_or(end, |next| end.min(next - 1))
}

/// metad's LEADER that fell with the quorum, the next one, and the addresses that left the lost leader's node.
fn own<'a>(outage: &Outage, until: LogMillis, notes: &'a [Note]) -> Vec<&'a Note> {
    let span = outage.from - CLOCKS_MS..=until;
    let within = || notes.iter().filter(|n| span.contains(&n.at));
    let first = |is: fn(&Event) -> bool| within().find(move |n| n.event.as_ref().is_some_and(is));
    let deposed = first(|e| matches!(e, Event::MetadDeposed { .. }));
    let leads = first(|e| matches!(e, Event::MetadLeads { .. }));
    let mut out: Vec<&Note> = deposed.into_iter().chain(leads).collect();
    // An address moves for many reasons: it must come from the node that was lost.
    let of_lost = |n: &&Note| {
        let left = |e: &Event| matches!(e, Event::AddressBound { before, .. } if *before == outage.leader);
        outage.leader != NOBODY && n.event.as_ref().is_some_and(left)
    };
    out.extend(within().filter(of_lost).take(MOVES_MAX));
    out
}

/// Datastores that hosts lost while the outage lasted, or shortly after.
fn lost<'a>(outage: &Outage, until: LogMillis, events: &'a [SiteEvent]) -> Vec<&'a SiteEvent> {
    let span = outage.from..=until;
    events.iter().filter(|e| e.aligned && e.kind == Kind::NfsLost && span.contains(&e.at)).collect()
}

/// Whether the line names it: that of a datastore has the name of its device, too.
fn names(e: &SiteEvent, object: &str) -> bool {
    !object.is_empty() && e.text.contains(object)
}

/// Other events of those hosts about those datastores.
fn followed<'a>(lost: &[&SiteEvent], events: &'a [SiteEvent]) -> Vec<&'a SiteEvent> {
    let mut out: Vec<&SiteEvent> = Vec::new();
    for e in events.iter().filter(|e| e.aligned) {
        let here =
            |within_ms: i64| lost.iter().filter(move |l| l.host == e.host && (l.at..=l.at + within_ms).contains(&e.at));
        let follows = match e.kind {
            // The device of an NFS datastore has another name than the datastore: the host must have lost only one.
            Kind::ApdStart | Kind::ApdTimeout => {
                here(FOLLOWS_MS).any(|l| l.object == e.object || names(l, &e.object)) || here(FOLLOWS_MS).count() == 1
            }
            Kind::Heartbeat => here(FOLLOWS_MS).next().is_some(),
            Kind::NfsRestored => {
                let again = out.iter().any(|o| o.kind == Kind::NfsRestored && o.host == e.host && o.object == e.object);
                !again && here(BACK_MS).any(|l| l.object == e.object)
            }
            _ => false,
        };
        if follows {
            out.push(e);
        }
    }
    out
}

/// Steps of the agent about such a datastore on such a host.
fn agent<'a>(lost: &[&SiteEvent], notes: &'a [Note]) -> Vec<&'a Note> {
    // vCenter knows a host by its full name, its own log by the first part.
    let is_host = |w: &str, l: &SiteEvent| w == l.host || w.split('.').next() == Some(l.host.as_str());
    let about = |n: &Note, l: &SiteEvent| {
        let words = || n.what.split(|c: char| !(c.is_ascii_alphanumeric() || "._-".contains(c)));
        // Records of earlier releases name host and datastore in their texts only.
        let named = match &n.event {
            Some(Event::Agent { host: Some(host), datastore: Some(datastore), .. }) => {
                is_host(host, l) && *datastore == l.object
            }
            _ => words().any(|w| is_host(w, l)) && words().any(|w| w == l.object),
        };
        (l.at..=l.at + BACK_MS).contains(&n.at) && named
    };
    let is_step = |e: &Event| matches!(e, Event::Agent { step, .. } if *step != AgentStep::Other);
    let step = |n: &&Note| n.event.as_ref().is_some_and(is_step) && lost.iter().any(|l| about(n, l));
    notes.iter().filter(step).collect()
}

/// The chain in a line, if anything followed.
pub fn text(outage: &Outage, a: &Analysis, lang: Lang) -> Option<String> {
    let found = links(outage, a);
    found.first()?;
    let names = server_names(&a.story);
    let short = |at| time::clock(at)[..8].to_string();
    let end = outage.to.map_or("?".into(), short);
    let first = if lang == Lang::English { "no quorum" } else { "集群停止工作" };
    let mut out = format!("{first} {}-{end}", short(outage.from));
    for link in found {
        let told = match link {
            Link::Site(e) => e.told(lang),
            Link::Own(n) => {
                let name = names.get(&n.node).cloned().unwrap_or_else(|| n.node.to_string());
                let node = if lang == Lang::English { format!("node {name}: ") } else { format!("节点 {name}：") };
                let of_address = matches!(n.event, Some(Event::AddressBound { .. }));
                let node = if of_address { String::new() } else { node };
                node + &n.what(lang)
            }
        };
        let at = short(link.at());
        out += &if lang == Lang::English { format!(" -> {told} at {at}") } else { format!(" -> {at} {told}") };
    }
    Some(out)
}
