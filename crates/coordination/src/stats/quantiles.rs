//! How values of one kind are spread, in a bounded number of counts.

use super::Spread;

/// Up to this a value has a count of its own; above it there are eight to each power of two.
const EXACT: u64 = 16;
const PER_POWER: usize = 8;
/// Values of 2^20 and more are taken for the greatest below that: of milliseconds, a quarter of an hour.
const BUCKETS: usize = EXACT as usize + 16 * PER_POWER;
/// After this many values each of them counts half: what is shown is of late.
const HALVED_AT: u32 = 1 << 16;

#[derive(Debug, Clone)]
pub(crate) struct Latency {
    pub(crate) spread: Spread,
    counts: [u32; BUCKETS],
    total: u32,
}

impl Default for Latency {
    fn default() -> Self {
        Latency { spread: Spread::default(), counts: [0; BUCKETS], total: 0 }
    }
}

fn bucket(value: u64) -> usize {
    if value < EXACT {
        return value as usize;
    }
    let power = value.ilog2() as usize;
    let eighth = (value >> (power - 3)) as usize % PER_POWER;
    (EXACT as usize + (power - 4) * PER_POWER + eighth).min(BUCKETS - 1)
}

/// The smallest value that counts there.
fn smallest(bucket: usize) -> u64 {
    match bucket.checked_sub(EXACT as usize) {
        None => bucket as u64,
        Some(n) => ((PER_POWER + n % PER_POWER) as u64) << (n / PER_POWER + 1),
    }
}

impl Latency {
    pub(crate) fn note(&mut self, value: u64) {
        self.spread.note(value);
        self.counts[bucket(value)] += 1;
        self.total += 1;
        if self.total >= HALVED_AT {
            self.counts.iter_mut().for_each(|n| *n /= 2);
            self.total = self.counts.iter().sum();
        }
    }

    /// The quantile `part` of the recent values. The result is at most an eighth too small.
    pub(crate) fn quantile(&self, part: f64) -> u64 {
        let mut left = (part * f64::from(self.total)).ceil() as u32;
        for (at, count) in self.counts.iter().enumerate() {
            if *count >= left && left > 0 {
                return smallest(at);
            }
            left = left.saturating_sub(*count);
        }
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_value_has_a_bucket_that_begins_an_eighth_below_it_at_most() {
        let mut last = 0;
        for value in (0..5_000).chain([1 << 19, (1 << 20) - 1]) {
            let b = bucket(value);
            assert!(b >= last && smallest(b) <= value && value - smallest(b) <= value / 8, "{value}: {b}");
            last = b;
        }
        assert_eq!((bucket(1 << 20), bucket(u64::MAX)), (BUCKETS - 1, BUCKETS - 1));
    }

    #[test]
    fn quantiles_are_of_late() {
        let mut l = Latency::default();
        assert_eq!(l.quantile(0.99), 0);
        (0..99).for_each(|_| l.note(2));
        l.note(10_000);
        assert_eq!((l.quantile(0.5), l.quantile(0.99), l.quantile(0.999)), (2, 2, 9_216));
        (0..1_000_000).for_each(|_| l.note(7));
        assert_eq!((l.quantile(0.001), l.quantile(0.999), l.spread.max(), l.spread.count), (7, 7, 10_000, 1_000_100));
        assert!(l.total < HALVED_AT);
    }
}
