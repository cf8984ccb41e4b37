//! Links and election reports, as status, console, metrics and log show them.

use serde::{Deserialize, Serialize};
use trivet_coordination::links::LinkState;
use trivet_coordination::ElectionReport;

/// A directed link between two servers of the ensemble.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LinkStatus {
    /// Id of the sending server.
    pub from: i64,
    /// Id of the receiving server.
    pub to: i64,
    /// The link loses packets or is silent.
    pub bad: bool,
    /// Probes lost of the newest ones, in percent.
    pub loss_percent: u8,
    /// Milliseconds since the last probe arrived.
    pub silence_ms: u64,
    /// Round-trip time in milliseconds, if it was measured.
    pub round_trip_ms: Option<u64>,
    /// How long it has been bad, or good; known at the receiving end.
    pub since_ms: Option<u64>,
}

impl From<&LinkState> for LinkStatus {
    fn from(l: &LinkState) -> Self {
        LinkStatus {
            from: l.from.0,
            to: l.to.0,
            bad: l.bad,
            loss_percent: l.loss_percent,
            silence_ms: l.silence_ms,
            round_trip_ms: l.round_trip_ms,
            since_ms: l.since_ms,
        }
    }
}

impl LinkStatus {
    fn since(&self) -> String {
        self.since_ms.map_or("-".into(), |ms| format!("{:.1} s", ms as f64 / 1000.0))
    }
    fn round_trip(&self) -> String {
        self.round_trip_ms.map_or("-".into(), |ms| format!("{ms} ms"))
    }
    /// A line of `trivet status`.
    pub fn text(&self) -> String {
        format!(
            "link {} -> {}  {}  loss {:>3} %  silent {:>5} ms  round trip {}  since {}",
            self.from,
            self.to,
            if self.bad { "BAD " } else { "good" },
            self.loss_percent,
            self.silence_ms,
            self.round_trip(),
            self.since()
        )
    }
}

/// The links toward a node, in Prometheus' text format.
pub fn metrics(node: u32, links: &[LinkStatus]) -> String {
    let mut out = String::new();
    let mut family = |name: &str, help: &str, value: &dyn Fn(&LinkStatus) -> f64| {
        out += &format!("# HELP trivet_link_{name} {help}\n# TYPE trivet_link_{name} gauge\n");
        for l in links.iter().filter(|l| l.to == i64::from(node)) {
            out += &format!("trivet_link_{name}{{from=\"{}\",to=\"{}\"}} {}\n", l.from, l.to, value(l));
        }
    };
    if links.iter().any(|l| l.to == i64::from(node)) {
        family("bad", "1 if the path from a peer is bad", &|l| f64::from(u8::from(l.bad)));
        family("loss_ratio", "Share of the latest 24 datagrams that was lost", &|l| f64::from(l.loss_percent) / 100.0);
        family("silence_seconds", "Time since the last datagram", &|l| l.silence_ms as f64 / 1e3);
    }
    out
}

/// The report on an election in one line, always of the same form.
pub fn report_text(r: &ElectionReport) -> String {
    format!(
        "{}; links: {}; detect {} ms, elect {} ms, discover {} ms, sync {} ms, serving after {} ms",
        if r.why.is_empty() { "this server started" } else { &r.why },
        r.links,
        r.detect_ms,
        r.elect_ms,
        r.discover_ms,
        r.sync_ms,
        r.took_ms
    )
}
