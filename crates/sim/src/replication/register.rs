//! Is a history of reads and writes that of one register? Values are unique, so that each read names its
//! write (Gibbons and Korach, "Testing shared memories", 1997).
//!
//! For each value take the earliest end and the latest begin among its write and its reads. If the end
//! comes first, the value must have been there all the time in between (a forward zone); else it may
//! have been there at any point of the time between begin and end (a backward zone). The history is
//! linearizable if no read precedes its write, no two forward zones overlap and no backward zone lies
//! within a forward zone.

use std::collections::BTreeMap;

/// A write without an answer may take effect at any time after its begin.
pub const NEVER: u64 = u64::MAX;

/// An operation on a register, as a client saw it.
#[derive(Debug, Clone, Copy)]
pub struct Operation {
    /// When the client sent it.
    pub begin: u64,
    /// When the client had its answer, or [`NEVER`].
    pub end: u64,
    /// The value that was written or read. No value may be written twice.
    pub value: u64,
    /// Whether it is a write.
    pub write: bool,
}

/// `None` if the history is linearizable, else what is wrong. The register begins with value 0.
pub fn check(history: &[Operation]) -> Option<String> {
    let mut writes: BTreeMap<u64, (u64, u64)> = BTreeMap::from([(0, (0, 0))]);
    for o in history.iter().filter(|o| o.write) {
        writes.insert(o.value, (o.begin, o.end));
    }
    // Earliest end, latest begin.
    let mut zones: BTreeMap<u64, (u64, u64)> = BTreeMap::from([(0, (0, 0))]);
    for o in history {
        if !o.write {
            match writes.get(&o.value) {
                None => return Some(format!("value {} was read and never written", o.value)),
                Some((begin, _)) if o.end < *begin => {
                    return Some(format!("value {} was read at {} before it was written at {begin}", o.value, o.end))
                }
                _ => {}
            }
        } else if o.end == NEVER && !history.iter().any(|r| !r.write && r.value == o.value) {
            // No read returned the value: the write may never have happened.
            continue;
        }
        let z = zones.entry(o.value).or_insert((o.end, o.begin));
        z.0 = z.0.min(o.end);
        z.1 = z.1.max(o.begin);
    }
    let mut forward: Vec<(u64, u64, u64)> =
        zones.iter().filter(|(_, z)| z.0 < z.1).map(|(v, z)| (z.0, z.1, *v)).collect();
    forward.sort_unstable();
    for pair in forward.windows(2) {
        if pair[1].0 < pair[0].1 {
            return Some(format!("values {} and {} exclude one another: {pair:?}", pair[0].2, pair[1].2));
        }
    }
    for (value, (end, begin)) in &zones {
        if end >= begin {
            if let Some(f) = forward.iter().find(|f| f.0 < *begin && *end < f.1) {
                return Some(format!(
                    "value {value} ({begin} to {end}) came and went while value {} was there ({} to {})",
                    f.2, f.0, f.1
                ));
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn op(write: bool, value: u64, begin: u64, end: u64) -> Operation {
        Operation { begin, end, value, write }
    }

    #[test]
    fn good_and_bad_histories() {
        assert_eq!(check(&[op(true, 1, 1, 2), op(false, 1, 3, 4), op(false, 1, 5, 6)]), None);
        // An unanswered write that is seen, and one that never is.
        assert_eq!(
            check(&[op(true, 1, 1, NEVER), op(false, 0, 3, 4), op(false, 1, 5, 6), op(true, 2, 7, NEVER)]),
            None
        );
        // Lost: acknowledged and then the old value again.
        assert!(check(&[op(true, 1, 1, 2), op(false, 0, 3, 4)]).is_some());
        // Back and forth between two values.
        assert!(check(&[op(true, 1, 1, NEVER), op(false, 1, 2, 3), op(false, 0, 4, 5)]).is_some());
        let stale = [op(true, 1, 1, 2), op(true, 2, 3, 4), op(false, 1, 5, 6)];
        assert!(check(&stale).is_some());
        assert!(check(&[op(false, 9, 1, 2)]).is_some());
    }
}
