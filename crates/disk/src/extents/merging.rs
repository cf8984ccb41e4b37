//! Layers that nobody needs by themselves any more become one, so that a file that is forked every day and whose old forks are
//! removed does not get a longer stack for ever.
//!
//! Two neighbours are merged when each stack that has the lower one has the upper one right above it. No reader sees a block of
//! the lower one that the upper one has, or the upper one without the lower one. So blocks are copied from the one of which
//! fewer are needed into the other, at leisure:
//!
//! ```text
//! copied    the target has all blocks; in memory only
//! kept      a checkpoint has made that durable; the stacks leave the source out from here on
//! left out  another one has made that durable; the source goes
//! ```
//!
//! After a crash before "left out" the stacks still have both, and what was copied is no contradiction.

use super::layers::Layers;
use super::{sum, Extents, Old, BAD, BLOCK_BYTES, HOLE};
use std::collections::BTreeMap;
use std::io;

/// Blocks that are copied at a time.
const PIECE_BLOCKS: u64 = 64;
/// Merges under way, each of which takes three checkpoints; further ones begin when these are done.
const MERGES_MAX: usize = 256;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Copied,
    /// In the checkpoint that is being written, or in one before.
    Kept,
    LeftOut,
    LeftOutKept,
}

/// A merge under way: the source's blocks go into the target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Merge {
    upper: u64,
    lower: u64,
    source: u64,
    step: Step,
}

impl Merge {
    /// The file that no stack has any more, and that goes when that is durable.
    pub(super) fn left_out(&self) -> Option<u64> {
        matches!(self.step, Step::LeftOut | Step::LeftOutKept).then_some(self.source)
    }
}

impl Layers {
    fn neighbours(&self, upper: u64, lower: u64) -> bool {
        let mut both = false;
        let fits = self.stacks().all(|below| match below.iter().position(|f| *f == lower) {
            None => !below.contains(&upper),
            Some(at) => {
                let fits = at > 0 && below[at - 1] == upper;
                both |= fits;
                fits
            }
        });
        fits && both && self.is_no_top(upper) && self.is_no_top(lower)
    }

    /// In one look at all stacks.
    fn to_merge(&self) -> Option<(u64, u64)> {
        let (mut above, mut under) = (BTreeMap::new(), BTreeMap::new());
        let note = |of: &mut BTreeMap<u64, Option<u64>>, file: u64, neighbour: Option<u64>| {
            let known = of.entry(file).or_insert(neighbour);
            if *known != neighbour {
                *known = None;
            }
        };
        for below in self.stacks() {
            for (at, file) in below.iter().enumerate() {
                note(&mut above, *file, at.checked_sub(1).map(|at| below[at]));
                note(&mut under, *file, below.get(at + 1).copied());
            }
        }
        let pairs = above.into_iter().filter_map(|(lower, upper)| Some((upper?, lower)));
        let open = |file: u64| self.merges.iter().any(|m| m.upper == file || m.lower == file);
        let mut pairs =
            pairs.filter(|(upper, lower)| under.get(upper) == Some(&Some(*lower)) && !open(*upper) && !open(*lower));
        pairs.find(|(upper, lower)| self.neighbours(*upper, *lower))
    }

    /// At a cut: what is copied, or left out, is in this checkpoint.
    pub(super) fn merge_cut(&mut self) {
        for m in &mut self.merges {
            m.step = match m.step {
                Step::Copied => Step::Kept,
                Step::LeftOut => Step::LeftOutKept,
                kept => kept,
            };
        }
    }
}

impl Extents {
    /// Copies what has to be for one merge, if there are layers to be merged. `pace` is called with the bytes that were
    /// copied, as often as it is worth a pause. Returns whether there was something.
    ///
    /// # Errors
    /// A file cannot be used.
    pub fn merge_layers(&self, pace: &mut dyn FnMut(u64)) -> io::Result<bool> {
        let found = {
            let inner = self.inner();
            inner.layers.to_merge().filter(|_| inner.layers.merges.len() < MERGES_MAX)
        };
        let Some((upper, lower)) = found else { return Ok(false) };
        let (of_upper, of_lower) = (self.sums_of(upper, 0..self.blocks())?, self.sums_of(lower, 0..self.blocks())?);
        let wanted = |down: bool| {
            let pairs = of_upper.iter().zip(&of_lower).enumerate();
            let blocks = pairs.filter(move |(_, (u, l))| if down { **u != HOLE } else { **u == HOLE && **l != HOLE });
            blocks.map(|(block, _)| block as u64)
        };
        let down = wanted(true).count() <= wanted(false).count();
        let (source, target) = if down { (upper, lower) } else { (lower, upper) };
        let mut blocks = wanted(down).peekable();
        while let Some(first) = blocks.next() {
            let mut end = first + 1;
            while end < first + PIECE_BLOCKS && blocks.next_if_eq(&end).is_some() {
                end += 1;
            }
            if !self.copy_blocks((upper, lower), source, target, first..end)? {
                return Ok(true);
            }
            pace((end - first) * BLOCK_BYTES);
        }
        let mut inner = self.inner();
        if inner.layers.neighbours(upper, lower) {
            inner.layers.merges.push(Merge { upper, lower, source, step: Step::Copied });
        }
        Ok(true)
    }

    /// `false`: the two are not to be merged any more.
    fn copy_blocks(
        &self,
        pair: (u64, u64),
        source: u64,
        target: u64,
        blocks: std::ops::Range<u64>,
    ) -> io::Result<bool> {
        // No other thread removes the layers meanwhile.
        let _held = self.merging.lock();
        if !self.inner().layers.neighbours(pair.0, pair.1) {
            return Ok(false);
        }
        let (bytes, bad) = self.read_blocks(source, blocks.clone(), Old::Checked)?;
        self.file(target, super::Kind::Data)?.write_at(&bytes, blocks.start * BLOCK_BYTES)?;
        let sums = blocks.clone().zip(bytes.chunks_exact(BLOCK_BYTES as usize));
        let sums = sums.map(|(block, bytes)| (block as u32, if bad.contains(&block) { BAD } else { sum(bytes) }));
        self.inner().active.entry(target).or_default().sums.extend(sums);
        Ok(true)
    }

    /// Whether a checkpoint would bring merges on.
    pub fn has_merges(&self) -> bool {
        !self.inner().layers.merges.is_empty()
    }

    /// After a checkpoint: the next step of the merges under way.
    pub(super) fn merges_kept(&self) -> io::Result<()> {
        let mut gone = Vec::new();
        {
            let _held = self.merging.lock();
            let mut inner = self.inner();
            let layers = &mut inner.layers;
            for mut m in std::mem::take(&mut layers.merges) {
                match m.step {
                    Step::Kept if !layers.neighbours(m.upper, m.lower) => continue,
                    Step::Kept => {
                        layers.leave_out(m.source);
                        m.step = Step::LeftOut;
                    }
                    Step::LeftOutKept => gone.push(m.source),
                    Step::Copied | Step::LeftOut => {}
                }
                // A merge whose file goes stays until that is emptied.
                layers.merges.push(m);
            }
        }
        if gone.is_empty() {
            return Ok(());
        }
        // Reads that began with a stack of before end first. A writer holds a stripe, and may wait for the lock above.
        self.stripes.iter().for_each(|s| drop(s.write()));
        for file in gone {
            self.empty_file(file, true)?;
            self.inner().layers.merges.retain(|m| m.source != file);
        }
        Ok(())
    }
}
