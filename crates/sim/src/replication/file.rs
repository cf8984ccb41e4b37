//! Is a history of writes, reads, changes of size and questions for it that of one file?
//!
//! All orders of what is open are followed at once (Wing and Gong, "Testing and verifying concurrent objects", 1993;
//! the states between two answers as in Lowe, "Testing for linearizability", 2017): with one operation a client the
//! states are few.

use std::collections::BTreeSet;

/// States that are followed at a time; more than a handful of clients can never make.
const STATES_MAX: usize = 100_000;

/// An operation on a file, with its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// A write of a whole block, which makes the file longer if the block lies beyond its end.
    Write {
        /// Number of the block, from 0.
        block: usize,
        /// The value that the block holds from then on.
        value: u64,
    },
    /// A block beyond the end, and one that was never written, reads as 0.
    Read {
        /// Number of the block, from 0.
        block: usize,
        /// The value that was read.
        value: u64,
    },
    /// Sets the size, in blocks. Blocks beyond it are lost, and read as 0 if the file grows again.
    SetSize(usize),
    /// The answer to a question for the size, in blocks.
    Size(usize),
    /// All of it, by its fingerprint: a clone.
    Image(u64),
}

/// A step of a history: an operation of one client, and when it was open.
#[derive(Debug, Clone, Copy)]
pub struct Step {
    /// When the client sent it.
    pub begin: u64,
    /// `register::NEVER` if it was not answered.
    pub end: u64,
    /// The operation and, except for writes and changes of size, its answer.
    pub action: Action,
}

/// Values of the blocks up to the end.
type Blocks = Vec<u64>;

/// A number of what the file holds; zeros at its end count.
pub fn fingerprint(blocks: &[u64]) -> u64 {
    let mix = |sum: u64, n: u64| (sum ^ n).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
    blocks.iter().fold(mix(1, blocks.len() as u64), |sum, b| mix(sum, *b))
}

/// The file behind an action, if it may answer so.
fn after(file: &Blocks, action: Action) -> Option<Blocks> {
    let mut next = file.clone();
    match action {
        Action::Write { block, value } => {
            next.resize(file.len().max(block + 1), 0);
            next[block] = value;
        }
        Action::SetSize(blocks) => next.resize(blocks, 0),
        Action::Read { block, value } if file.get(block).copied().unwrap_or(0) != value => return None,
        Action::Size(blocks) if blocks != file.len() => return None,
        Action::Image(sum) if fingerprint(file) != sum => return None,
        Action::Read { .. } | Action::Size(_) | Action::Image(_) => {}
    }
    Some(next)
}

/// `None` if the history is linearizable, else the violation as text. The file begins empty.
pub fn check(history: &[Step]) -> Option<String> {
    // An operation that begins at the time when another one ends counts as concurrent with it.
    let mut turns: Vec<(u64, bool, usize)> = Vec::new();
    for (i, step) in history.iter().enumerate() {
        turns.push((step.begin, false, i));
        turns.push((step.end, true, i));
    }
    turns.sort_unstable();
    // The file, and which of the open operations have happened in it.
    let mut states: BTreeSet<(Blocks, Vec<usize>)> = BTreeSet::from([(Vec::new(), Vec::new())]);
    let mut open: Vec<usize> = Vec::new();
    for (time, ends, step) in turns {
        if time == super::register::NEVER {
            break;
        }
        if !ends {
            open.push(step);
            continue;
        }
        let mut kept = BTreeSet::new();
        let mut seen = states.clone();
        let mut todo: Vec<(Blocks, Vec<usize>)> = states.into_iter().collect();
        while let Some((file, happened)) = todo.pop() {
            if happened.contains(&step) {
                kept.insert((file, happened.into_iter().filter(|i| *i != step).collect()));
                continue;
            }
            for next in open.iter().filter(|i| !happened.contains(i)) {
                let Some(file) = after(&file, history[*next].action) else { continue };
                let mut happened = happened.clone();
                happened.push(*next);
                happened.sort_unstable();
                if seen.insert((file.clone(), happened.clone())) {
                    todo.push((file, happened));
                }
            }
        }
        if kept.is_empty() {
            let before: Vec<&Blocks> = seen.iter().map(|(file, _)| file).collect::<BTreeSet<_>>().into_iter().collect();
            let of = history[step];
            return Some(format!("{of:?} is no answer of a file that can be one of {before:?}"));
        }
        assert!(kept.len() <= STATES_MAX, "too much is open at {time}");
        open.retain(|i| *i != step);
        states = kept;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::super::register::NEVER;
    use super::*;

    fn step(begin: u64, end: u64, action: Action) -> Step {
        Step { begin, end, action }
    }

    #[test]
    fn good_and_bad_histories() {
        let write = |block, value| Action::Write { block, value };
        let read = |block, value| Action::Read { block, value };
        let good = [
            step(1, 2, write(2, 7)),
            step(3, 4, Action::Size(3)),
            step(5, 9, Action::SetSize(1)),
            step(6, 7, read(2, 7)),
            step(8, 10, read(2, 0)),
            step(11, 12, Action::Size(1)),
            step(13, 14, Action::SetSize(4)),
            step(15, 16, read(2, 0)),
        ];
        assert_eq!(check(&good), None);
        // Cut off bytes that come back when the file grows.
        let back = [good[0], good[2], good[6], step(15, 16, read(2, 7))];
        assert!(check(&back).is_some());
        // A size that grew again by itself.
        assert!(check(&[good[0], good[2], step(11, 12, Action::Size(3))]).is_some());
        // Carried out twice.
        let twice =
            [step(1, 20, Action::SetSize(1)), good[0], step(3, 4, Action::Size(1)), step(5, 6, Action::Size(3))];
        assert!(check(&twice).is_some());
        // An unanswered operation may have happened, or not, or happen later.
        let open = [step(1, NEVER, write(0, 1)), step(2, 3, Action::Size(0)), step(4, 5, read(0, 1))];
        assert_eq!(check(&open), None);
        assert!(check(&[open[0], open[2], step(6, 7, Action::Size(0))]).is_some());
    }
}
