//! The two clocks of a process.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Milliseconds since this clock was made, never backwards; starts at 1000 so that "long ago" exists.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    start: Instant,
}

impl Default for Clock {
    fn default() -> Self {
        Clock { start: Instant::now() }
    }
}

impl Clock {
    /// Milliseconds since the clock was made; never goes back.
    pub fn mono_ms(&self) -> u64 {
        1_000 + self.start.elapsed().as_millis() as u64
    }
}

/// Nanoseconds since 1970, for the times of files.
pub fn wall_ns() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_nanos() as u64)
}

/// Milliseconds since 1970: for people and for stats of znodes, never for limits.
pub fn wall_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as i64)
}
