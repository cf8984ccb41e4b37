//! Restarts that belong together: of all servers, one after the other, by somebody's hand; and of one server that does not
//! stay up.

use crate::story::{Restart, Story};
use std::collections::BTreeSet;

/// A rolling restart is over within this, in milliseconds; what takes longer is told restart by restart.
const ROLLING_MS: i64 = 1_800_000;
/// Starts of one server that are further apart than this, in milliseconds, have nothing to do with each other.
const AGAIN_MS: i64 = 600_000;
/// Fewer starts of one server in a row are told one by one.
const AGAIN_MIN: usize = 4;

/// The restarts of a rolling restart, if there was one: of each server once, none before the one before it was over.
pub fn rolling(story: &Story) -> Vec<Restart> {
    let of = story.servers.len();
    let found = story.restarts.windows(of.max(1)).find(|w| {
        let nodes: BTreeSet<u32> = w.iter().map(|r| r.node).collect();
        let (first, last) = (&w[0], &w[w.len() - 1]);
        nodes.len() == of && last.at - first.after <= ROLLING_MS && w.windows(2).all(|p| p[0].at <= p[1].after)
    });
    found.filter(|_| of > 1).map(<[_]>::to_vec).unwrap_or_default()
}

/// Servers that were started again and again, each with its restarts in the order of their times.
pub(super) fn again_and_again(story: &Story) -> Vec<Vec<&Restart>> {
    let mut out: Vec<Vec<&Restart>> = Vec::new();
    for node in &story.servers {
        let mut row: Vec<&Restart> = Vec::new();
        for r in story.restarts.iter().filter(|r| r.node == *node) {
            if row.last().is_some_and(|before| r.at - before.at > AGAIN_MS) {
                out.push(std::mem::take(&mut row));
            }
            row.push(r);
        }
        out.push(row);
    }
    out.retain(|row| row.len() >= AGAIN_MIN);
    out
}
