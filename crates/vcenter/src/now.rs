//! The two clocks that a driver hands in with every input.

/// The present, on both clocks, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Now {
    /// Since some moment of this process: limits and holds.
    pub mono_ms: u64,
    /// Since 1970: what outlives a LEADER.
    pub wall_ms: i64,
}
