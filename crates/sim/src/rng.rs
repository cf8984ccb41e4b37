//! A small seeded generator (splitmix64): the only source of chance in a run.

/// The state of the generator. A clone continues with the same numbers.
#[derive(Clone)]
pub struct Rng(u64);

impl Rng {
    /// The generator of a seed; different seeds give unrelated sequences.
    pub fn new(seed: u64) -> Self {
        Rng(seed ^ 0x9e37_79b9_7f4a_7c15)
    }
    /// The next number, of all 64 bits.
    #[allow(clippy::should_implement_trait)] // an endless sequence is no iterator's: there is no end to ask for
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
    /// In `from..to`.
    pub fn range(&mut self, from: u64, to: u64) -> u64 {
        from + self.next() % (to - from).max(1)
    }
    /// An index into something of `len` elements; 0 if there are none.
    pub fn index(&mut self, len: usize) -> usize {
        self.range(0, len as u64) as usize
    }
    /// True in `percent` of 100 cases.
    pub fn chance(&mut self, percent: u64) -> bool {
        self.next() % 100 < percent
    }
}
