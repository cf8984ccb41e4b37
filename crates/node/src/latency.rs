//! Durations of the last minute: a histogram with four buckets per doubling, in six slices of ten seconds that expire in
//! turn.

use parking_lot::Mutex;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Steps of the histogram for each doubling: a quantile is at most 19 % above the true one.
const STEPS: usize = 4;
/// From a microsecond to two minutes; what takes longer is in the last step.
const BUCKETS: usize = 27 * STEPS;
const PART: Duration = Duration::from_secs(10);
const PARTS: u64 = 6;

struct Part {
    number: u64,
    buckets: Box<[u32; BUCKETS]>,
}

/// Taken down by many threads, each for some nanoseconds.
pub struct Latency {
    begun: Instant,
    parts: Mutex<VecDeque<Part>>,
}

/// The last minute in figures.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct LastMinute {
    pub count: u64,
    pub p50_ms: f64,
    pub p99_ms: f64,
}

impl Default for Latency {
    fn default() -> Latency {
        Latency { begun: Instant::now(), parts: Mutex::default() }
    }
}

fn bucket(took: Duration) -> usize {
    let us = (took.as_micros() as f64).max(1.0);
    ((us.log2() * STEPS as f64) as usize).min(BUCKETS - 1)
}

/// The upper edge of a bucket.
fn edge_ms(bucket: usize) -> f64 {
    ((bucket + 1) as f64 / STEPS as f64).exp2() / 1e3
}

impl Latency {
    pub fn took(&self, took: Duration) {
        self.took_at(self.begun.elapsed(), took);
    }

    fn took_at(&self, at: Duration, took: Duration) {
        let number = at.as_secs() / PART.as_secs();
        let mut parts = self.parts.lock();
        if parts.back().is_none_or(|p| p.number < number) {
            parts.push_back(Part { number, buckets: Box::new([0; BUCKETS]) });
            while parts.front().is_some_and(|p| p.number + PARTS <= number) {
                parts.pop_front();
            }
        }
        let count = &mut parts.back_mut().expect("one was just there").buckets[bucket(took)];
        *count = count.saturating_add(1);
    }

    pub fn last_minute(&self) -> LastMinute {
        self.last_minute_at(self.begun.elapsed())
    }

    fn last_minute_at(&self, at: Duration) -> LastMinute {
        let number = at.as_secs() / PART.as_secs();
        let mut sum = [0u64; BUCKETS];
        for p in self.parts.lock().iter().filter(|p| p.number + PARTS > number) {
            sum.iter_mut().zip(p.buckets.iter()).for_each(|(s, n)| *s += u64::from(*n));
        }
        let count: u64 = sum.iter().sum();
        let quantile = |q: f64| {
            let rank = (count as f64 * q).ceil() as u64;
            let mut seen = 0;
            let at = sum.iter().position(|n| {
                seen += n;
                seen >= rank
            });
            at.filter(|_| count > 0).map_or(0.0, edge_ms)
        };
        LastMinute { count, p50_ms: quantile(0.5), p99_ms: quantile(0.99) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_those_of_the_last_minute() {
        let l = Latency::default();
        let s = Duration::from_secs;
        assert_eq!(l.last_minute_at(s(0)), LastMinute::default());
        for _ in 0..98 {
            l.took_at(s(3), Duration::from_millis(2));
        }
        for _ in 0..2 {
            l.took_at(s(25), Duration::from_millis(700));
        }
        let m = l.last_minute_at(s(30));
        assert_eq!(m.count, 100);
        assert!((2.0..2.4).contains(&m.p50_ms) && (700.0..840.0).contains(&m.p99_ms), "{m:?}");
        // The slow ones are there for longer than the others.
        assert_eq!(l.last_minute_at(s(70)).count, 2);
        assert_eq!(l.last_minute_at(s(90)).count, 0);
    }

    #[test]
    fn what_takes_for_ever_or_no_time_is_counted() {
        let l = Latency::default();
        l.took_at(Duration::ZERO, Duration::ZERO);
        l.took_at(Duration::ZERO, Duration::from_secs(86_400));
        let m = l.last_minute_at(Duration::ZERO);
        assert_eq!(m.count, 2);
        assert!(m.p99_ms > 100_000.0, "{m:?}");
    }
}
