//! What happened to a ZooKeeper ensemble, from the logs of its servers.
//!
//! `reader` takes lines in: `prefixes` and envelopes (`json_lines`, `csv`) off, apart by one row of the table of `layouts`
//! with times of any form (`stamp`). `facts` understands messages, `identity` says who wrote a log, `nodes` sorts entries, `story` puts the servers' facts on one clock and
//! finds roles, quorums and outages, `report` tells it. No input or output beyond lines that are handed in.

pub mod causes;
mod clock_steps;
pub mod complaints;
mod csv;
pub mod facts;
pub mod gc;
pub mod identity;
pub mod json_lines;
pub mod json_value;
pub mod layouts;
pub mod line;
pub mod narrow;
mod needles;
pub mod nodes;
pub mod own;
pub mod paths;
pub mod prefixes;
pub mod reader;
pub mod report;
pub mod silence;
pub mod site;
pub mod skew;
pub mod stamp;
pub mod story;
pub mod time;
pub mod verdict;
pub mod versions;

pub use nodes::Reader;
pub use story::Story;

use nodes::Facts;
use std::collections::BTreeMap;

/// Everything that was found out.
pub struct Analysis {
    pub story: Story,
    /// Names of the inputs, as places count them.
    pub files: Vec<String>,
    pub offsets: BTreeMap<u32, skew::Offset>,
    pub late: Vec<paths::Late>,
    pub lost: Vec<paths::Lost>,
    pub unheard: Vec<paths::Unheard>,
    pub silent: Vec<paths::Silent>,
    pub verdict: verdict::Verdict,
    /// The last line of each server.
    pub ends: BTreeMap<u32, time::LogMillis>,
    /// What is wrong with the inputs, a line each.
    pub complaints: Vec<complaints::Complaint>,
    /// What machines around the ensemble said, in the order of times.
    pub site: Vec<site::SiteEvent>,
    /// What people wrote between the lines.
    pub remarks: Vec<(time::LogMillis, String, nodes::Place)>,
    /// What the clocks are ahead of UTC, as `+08:00`; empty: nobody knows.
    pub zone: String,
}

/// `facts` as `Reader::finish` gives them.
pub fn analyse(mut facts: Facts, files: Vec<String>) -> Analysis {
    clock_steps::undo(&mut facts, &files);
    let offsets = skew::offsets(&facts);
    skew::correct(&mut facts, &offsets);
    let story = story::tell(&facts);
    let (late, unheard) = (paths::late(&facts, &offsets, &story), paths::unheard(&facts));
    let (silent, lost) = (paths::silent(&facts, &story), paths::lost(&facts, &story));
    let verdict = verdict::decide(&story, &late, &lost, &unheard);
    let ends = facts.ends.iter().map(|(id, end)| (*id, end.0)).collect();
    // Our own processes write UTC; of Java's the collector's lines name the zone.
    let zone = match facts.zones.first() {
        _ if !story.own.is_empty() && story.own == story.read => "Z".into(),
        Some(zone) if facts.zones.len() == 1 && (facts.zone.is_some() || !facts.named_zone) => zone.clone(),
        _ => String::new(),
    };
    Analysis {
        story,
        files,
        offsets,
        late,
        lost,
        unheard,
        silent,
        verdict,
        ends,
        complaints: facts.complaints,
        site: facts.site,
        remarks: facts.remarks,
        zone,
    }
}
