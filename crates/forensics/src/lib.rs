//! The reconstruction of what happened to a ZooKeeper ensemble, from the logs of its servers.
//!
//! No input or output beyond lines that are handed in. A caller makes a [`Reader`], announces each input with
//! [`Reader::file`], hands its lines in, ends with [`Reader::finish`], and gives the facts to [`analyse`]; [`report`] tells
//! the [`Analysis`] to people and to programs. Events carry the places of the lines that they were read from.
//!
//! | step | modules |
//! |---|---|
//! | a line is taken apart | [`prefixes`] and envelopes ([`json_lines`]) off, a row of [`layouts`], times of any form ([`stamp`]) |
//! | a message becomes a fact | [`facts`], [`own`] for records of Trivet's nodes, [`causes`], [`gc`], [`site`] |
//! | a log gets its server | [`identity`], [`nodes`] |
//! | clocks become one | [`skew`] |
//! | facts become a story | [`story`]: roles, quorums, outages; [`paths`] and [`verdict`]: the server or link to blame |
//!
//! Where to begin: [`facts::Fact`] is what the crate understands of a log, [`Story`] what it makes of it.

#![warn(missing_docs)]

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
    /// The story: roles, quorums and outages.
    pub story: Story,
    /// Names of the inputs, as places count them.
    pub files: Vec<String>,
    /// The servers' clocks, against the reference's.
    pub offsets: BTreeMap<u32, skew::Offset>,
    /// Directions in which votes came late.
    pub late: Vec<paths::Late>,
    /// Directions in which all votes of an outage were lost.
    pub lost: Vec<paths::Lost>,
    /// Leaders that a looking server did not hear.
    pub unheard: Vec<paths::Unheard>,
    /// Servers that fell silent between leader and follower.
    pub silent: Vec<paths::Silent>,
    /// The server or the link to blame, if the logs decide it.
    pub verdict: verdict::Verdict,
    /// The last line of each server.
    pub ends: BTreeMap<u32, time::LogMillis>,
    /// Complaints about the inputs: files, lines and times that could not be used.
    pub complaints: Vec<complaints::Complaint>,
    /// Events of machines around the ensemble, in the order of their times.
    pub site: Vec<site::SiteEvent>,
    /// Notes that people wrote between the lines, with the time and the place.
    pub remarks: Vec<(time::LogMillis, String, nodes::Place)>,
    /// The offset of the logs' clocks from UTC, as `+08:00`; empty if no line names a zone.
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
