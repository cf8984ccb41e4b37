//! A part of what was found: of some hours, or of one server.

use crate::paths::{Late, Lost, Unheard};
use crate::story::Story;
use crate::time::LogMillis;
use crate::{verdict, Analysis};

/// Both ends may be open.
#[derive(Debug, Clone, Copy, Default)]
pub struct Narrow {
    /// The beginning of the time that counts.
    pub from: Option<LogMillis>,
    /// The end of that time.
    pub to: Option<LogMillis>,
    /// The server that counts; `None` for all.
    pub node: Option<u32>,
}

impl Narrow {
    fn within(&self, from: LogMillis, to: Option<LogMillis>) -> bool {
        self.from.is_none_or(|f| to.is_none_or(|to| to >= f)) && self.to.is_none_or(|t| from <= t)
    }
    fn about(&self, nodes: impl IntoIterator<Item = u32>) -> bool {
        self.node.is_none_or(|n| nodes.into_iter().any(|m| m == n))
    }
}

/// Drops events outside of the filter and decides the verdict again with the rest.
pub fn narrow(a: &mut Analysis, by: Narrow) {
    let s: &mut Story = &mut a.story;
    s.roles.retain(|r| by.within(r.from, r.to) && by.about([r.node]));
    // A quorum's times concern every server.
    s.quorum.retain(|w| by.within(w.from, w.to));
    s.outages.retain(|o| by.within(o.from, o.to) && by.about(o.lost.iter().map(|l| l.0).chain([o.leader])));
    s.departures.retain(|d| by.within(d.at, d.back) && by.about([d.node].into_iter().chain(d.leader)));
    s.restarts.retain(|r| by.within(r.after, Some(r.at)) && by.about([r.node]));
    s.causes.retain(|c| by.within(c.from, Some(c.to)) && by.about([c.node]));
    s.expired.retain(|x| by.within(x.1, Some(x.1)) && by.about([x.0]));
    s.stalls.retain(|t| by.within(t.1 - t.2 as i64, Some(t.1)) && by.about([t.0]));
    s.notes.retain(|n| by.within(n.at, Some(n.at)) && by.about([n.node]));
    a.late.retain(|l: &Late| by.within(l.since, Some(l.until)) && by.about([l.from, l.to]));
    a.lost.retain(|l: &Lost| by.within(l.since, Some(l.until)) && by.about([l.from, l.to]));
    a.unheard.retain(|u: &Unheard| by.within(u.from, Some(u.to)) && by.about([u.looking, u.leader, u.told_by]));
    a.silent.retain(|l| by.within(l.since, Some(l.until)) && by.about([l.from, l.to]));
    a.site.retain(|e| by.within(e.at, Some(e.at)));
    a.remarks.retain(|r| by.within(r.0, Some(r.0)));
    let s = &mut a.story;
    s.stale.retain(|t| by.within(t.2, Some(t.3)) && by.about([t.0]));
    s.first = by.from.unwrap_or(s.first).max(s.first);
    s.last = by.to.unwrap_or(s.last).min(s.last).max(s.first);
    a.verdict = verdict::decide(&a.story, &a.late, &a.lost, &a.unheard);
}
