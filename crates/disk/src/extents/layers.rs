//! Extents that share blocks: the bytes of an extent are in a *stack* of files, and a block is what the topmost file that has
//! it says.
//!
//! ```text
//! before   a: [a]                     a fork of a to b       a: [p, a]   b: [b, a]
//! ```
//!
//! A fork makes the file that took the writes a *layer*, which is never written again, and puts an empty file above it for
//! each of the two. It costs the same however much the extent holds. A block that the top file has no sum for is looked for
//! below it, so that a zeroed block above a layer has to have a sum: the one of zeros.
//!
//! A layer goes with the last stack that has it. The stacks are durable with the checkpoint, as sums are; forks that are newer
//! than it follow from the journal. Nothing below a top file changes, so that a replay finds there what was there at the fork.

use super::merging::Merge;
use super::{Extents, Old, Overlay, BLOCK_BYTES, HOLE};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::ops::Range;

/// Numbers of files that are no extent's own begin here; extents have smaller ones.
const FIRST: u64 = 1 << 63;
/// Under this key a checkpoint keeps the number of the newest file that is no extent's own.
const NEWEST: u64 = u64::MAX;

/// Files by number, the topmost first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stack {
    pub top: u64,
    pub below: Vec<u64>,
    /// Nothing was written to the top file since a fork made it. Kept, as a replay cannot see it: the files may be those of later.
    pub fresh: bool,
}

impl Stack {
    fn of(id: u64) -> Stack {
        Stack { top: id, below: Vec::new(), fresh: false }
    }
    fn files(&self) -> impl Iterator<Item = u64> + '_ {
        std::iter::once(self.top).chain(self.below.iter().copied())
    }
    fn encode(&self) -> Vec<u8> {
        std::iter::once(u8::from(self.fresh)).chain(self.files().flat_map(u64::to_be_bytes)).collect()
    }
    fn decode(bytes: &[u8]) -> Option<Stack> {
        let (fresh, files) = bytes.split_first()?;
        let numbers = files.chunks_exact(8).map(|b| u64::from_be_bytes(b.try_into().expect("eight bytes")));
        let mut numbers = numbers.take(if files.len().is_multiple_of(8) { usize::MAX } else { 0 });
        Some(Stack { top: numbers.next()?, below: numbers.collect(), fresh: *fresh != 0 })
    }
}

/// Stacks of extents that are not just a file of their own.
#[derive(Default)]
pub(super) struct Layers {
    stacks: BTreeMap<u64, Stack>,
    /// How many files that are no extent's own were ever made.
    made: u64,
    /// Extents whose stack is not as the last cut saw it.
    changed: BTreeSet<u64>,
    pub(super) merges: Vec<Merge>,
}

impl Layers {
    pub(super) fn stack(&self, id: u64) -> Stack {
        self.stacks.get(&id).cloned().unwrap_or_else(|| Stack::of(id))
    }
    fn set(&mut self, id: u64, stack: Stack) {
        self.changed.insert(id);
        if stack == Stack::of(id) {
            self.stacks.remove(&id);
        } else {
            self.stacks.insert(id, stack);
        }
    }
    /// Something was written to the extent's top file.
    pub(super) fn written(&mut self, id: u64) {
        if let Some(stack) = self.stacks.get_mut(&id).filter(|s| s.fresh) {
            stack.fresh = false;
            self.changed.insert(id);
        }
    }
    fn new_file(&mut self) -> u64 {
        self.made += 1;
        self.changed.insert(NEWEST);
        FIRST + self.made
    }
    fn is_used(&self, file: u64) -> bool {
        let going = self.merges.iter().any(|m| m.left_out() == Some(file));
        going || self.stacks.values().any(|s| s.files().any(|f| f == file))
    }

    /// An extent gives its stack up. Returns the file that it has from then on, and those that nobody has any more.
    fn leave(&mut self, id: u64) -> (u64, Vec<u64>) {
        let before = self.stack(id);
        self.stacks.remove(&id);
        let gone: Vec<u64> = before.files().filter(|f| !self.is_used(*f)).collect();
        // The file that has its number may be a layer of others by now.
        let top = if self.is_used(id) { self.new_file() } else { id };
        if before != Stack::of(id) || top != id {
            self.set(id, Stack { top, ..Stack::of(id) });
        }
        (top, gone)
    }

    /// The layers' files, below the extents' own files.
    pub(super) fn stacks(&self) -> impl Iterator<Item = &Vec<u64>> {
        self.stacks.values().map(|s| &s.below)
    }
    pub(super) fn is_no_top(&self, file: u64) -> bool {
        self.stacks.values().all(|s| s.top != file)
    }
    /// No stack has this file any more.
    pub(super) fn leave_out(&mut self, file: u64) {
        for (id, stack) in self.stacks.iter_mut().filter(|(_, s)| s.below.contains(&file)) {
            stack.below.retain(|f| *f != file);
            self.changed.insert(*id);
        }
    }

    /// The changes since this was called last, as the states of a checkpoint have it.
    pub(super) fn take_changed(&mut self) -> Vec<(u64, Option<Vec<u8>>)> {
        let of = |id: u64| match id {
            NEWEST => Some(Stack::of(self.made).encode()),
            id => self.stacks.get(&id).map(Stack::encode),
        };
        std::mem::take(&mut self.changed).into_iter().map(|id| (id, of(id))).collect()
    }
}

impl Extents {
    /// Takes the stacks over that a checkpoint has. `false`: they are none.
    #[must_use]
    pub fn load_stacks(&self, kept: impl IntoIterator<Item = (u64, Vec<u8>)>) -> bool {
        let mut inner = self.inner();
        kept.into_iter().all(|(id, bytes)| match (id, Stack::decode(&bytes)) {
            (NEWEST, Some(made)) => {
                inner.layers.made = made.top;
                true
            }
            (id, Some(stack)) => inner.layers.stacks.insert(id, stack).is_none(),
            (_, None) => false,
        })
    }

    #[cfg(test)]
    pub(crate) fn dump(&self) {
        let inner = self.inner();
        eprintln!("{:?} merges {:?} durable {:?}", inner.layers.stacks, inner.layers.merges, inner.durable);
    }

    /// Empties files that a merge had left out when the process ended.
    ///
    /// # Errors
    /// A file cannot be used.
    pub fn drop_left_out(&self) -> io::Result<()> {
        let left_out: Vec<u64> = {
            let inner = self.inner();
            let layers = &inner.layers;
            let is_top = |file: &u64| *file < FIRST && layers.stack(*file).top == *file;
            inner.durable.iter().filter(|f| !is_top(f) && !layers.is_used(**f)).copied().collect()
        };
        left_out.into_iter().try_for_each(|file| self.empty_file(file, true))
    }

    pub(super) fn stack(&self, id: u64) -> Stack {
        self.inner().layers.stack(id)
    }

    /// `to` becomes what `from` is now, and both go their own ways from here on. What `to` was before is gone.
    ///
    /// # Errors
    /// A file cannot be used.
    pub fn fork(&self, from: u64, to: u64) -> io::Result<()> {
        assert!(from != to && from.max(to) < FIRST, "an extent is forked to another one");
        let (low, high) = (self.stripe_of(from.min(to)), self.stripe_of(from.max(to)));
        let _first = self.stripes[low.min(high)].write();
        let _second = (low != high).then(|| self.stripes[low.max(high)].write());
        let top = self.give_up_stack(to)?;
        self.empty_file(top, false)?;
        let stack = self.stack(from);
        let fresh = true;
        if stack.fresh {
            // Nothing was written since the last fork: what is below is all of it.
            self.inner().layers.set(to, Stack { top, below: stack.below, fresh });
            return Ok(());
        }
        let below: Vec<u64> = stack.files().collect();
        let mut inner = self.inner();
        inner.layers.set(to, Stack { top, below: below.clone(), fresh });
        let above = inner.layers.new_file();
        inner.layers.set(from, Stack { top: above, below, fresh });
        drop(inner);
        self.empty_file(above, false)
    }

    /// Bytes of the disk that the extent's blocks take. What layers have counts for every extent that shares it; a block that was
    /// overwritten since a fork counts twice, up to the length of the extent.
    ///
    /// # Errors
    /// A file cannot be looked at.
    pub fn allocated(&self, id: u64) -> io::Result<u64> {
        let mut bytes = 0;
        for file in self.stack(id).files() {
            bytes += self.fs.allocated(&self.path(file, super::Kind::Data))?;
        }
        Ok(bytes.min(self.extent_bytes))
    }

    /// The stripe of the extent is held. Returns the file that it has from now on, which is to be emptied.
    pub(super) fn give_up_stack(&self, id: u64) -> io::Result<u64> {
        // Blocks are not copied into files that go.
        let _held = self.merging.lock();
        let (top, gone) = self.inner().layers.leave(id);
        for file in gone.into_iter().filter(|file| *file != top) {
            self.empty_file(file, true)?;
        }
        Ok(top)
    }

    pub(super) fn empty_file(&self, file: u64, removed: bool) -> io::Result<()> {
        match self.fs.open(&self.path(file, super::Kind::Data), false) {
            Ok(data) => data.set_len(0)?,
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(e),
        }
        let overlay = Overlay { emptied: true, removed, sums: BTreeMap::new() };
        self.inner().active.insert(file, overlay);
        Ok(())
    }

    /// The topmost of these files that has each block.
    pub(super) fn sources(
        &self,
        files: impl IntoIterator<Item = u64>,
        blocks: Range<u64>,
    ) -> io::Result<Vec<Option<u64>>> {
        let mut found = vec![None; (blocks.end - blocks.start) as usize];
        for file in files {
            if found.iter().all(Option::is_some) {
                break;
            }
            let sums = self.sums_of(file, blocks.clone())?;
            for (source, sum) in found.iter_mut().zip(sums) {
                if source.is_none() && sum != HOLE {
                    *source = Some(file);
                }
            }
        }
        Ok(found)
    }

    pub(super) fn sources_of(&self, stack: &Stack, blocks: Range<u64>) -> io::Result<Vec<Option<u64>>> {
        self.sources(stack.files(), blocks)
    }

    /// As `read_blocks`, through a whole stack.
    pub(super) fn read_through(&self, stack: &Stack, blocks: Range<u64>, old: Old) -> io::Result<(Vec<u8>, Vec<u64>)> {
        if stack.below.is_empty() {
            return self.read_blocks(stack.top, blocks, old);
        }
        let sources = self.sources_of(stack, blocks.clone())?;
        let mut bytes = vec![0u8; sources.len() * BLOCK_BYTES as usize];
        let mut bad = Vec::new();
        let mut at = 0;
        while at < sources.len() {
            let same = sources[at..].iter().take_while(|s| **s == sources[at]).count();
            if let Some(file) = sources[at] {
                let first = blocks.start + at as u64;
                let (piece, lost) = self.read_blocks(file, first..first + same as u64, old)?;
                bytes[at * BLOCK_BYTES as usize..][..piece.len()].copy_from_slice(&piece);
                bad.extend(lost);
            }
            at += same;
        }
        Ok((bytes, bad))
    }
}
