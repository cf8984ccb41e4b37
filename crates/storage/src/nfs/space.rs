//! How much fits: what FSSTAT says of a datastore whose data has several copies on nodes of different sizes.

/// Bytes of data that fit on these nodes when each byte is on `copies` different ones: the greatest `x` for which the
/// nodes together have room for `copies * x` while no node holds more than `x`, since it never has two copies of one byte.
pub fn capacity(nodes: &[u64], copies: u32) -> u64 {
    let copies = copies.max(1) as usize;
    let mut sorted = nodes.to_vec();
    sorted.sort_unstable_by(|a, b| b.cmp(a));
    if sorted.len() < copies {
        // The copies that have no node are made when there is one.
        return sorted.last().copied().unwrap_or(0);
    }
    // The k greatest nodes are full of x each, the rest is used whole.
    let x = (0..copies).map(|k| {
        let rest: u128 = sorted[k..].iter().map(|n| u128::from(*n)).sum();
        (rest / (copies - k) as u128).min(u128::from(u64::MAX)) as u64
    });
    x.min().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_need_different_nodes() {
        assert_eq!(capacity(&[100, 100, 100], 2), 150);
        assert_eq!(capacity(&[100, 10], 2), 10);
        assert_eq!(capacity(&[1_000, 100, 100], 2), 200, "each byte has a copy beside the great one");
        assert_eq!(capacity(&[100, 100, 100], 3), 100);
        assert_eq!(capacity(&[100, 50], 1), 150);
        assert_eq!((capacity(&[], 2), capacity(&[70], 2), capacity(&[100, 60], 3)), (0, 70, 60));
        assert_eq!(capacity(&[u64::MAX, u64::MAX], 1), u64::MAX);
    }

    #[test]
    fn it_is_the_greatest_that_can_be_placed() {
        let fits = |nodes: &[u64], copies: u64, x: u64| nodes.iter().map(|n| (*n).min(x)).sum::<u64>() >= copies * x;
        let mut seed = 7u64;
        for _ in 0..2_000 {
            let mut next = || {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                seed >> 59
            };
            let nodes: Vec<u64> = (0..3 + next() % 4).map(|_| next() * 10).collect();
            for copies in 1..=3 {
                let x = capacity(&nodes, copies);
                let c = u64::from(copies);
                assert!(fits(&nodes, c, x) && !fits(&nodes, c, x + 1), "{nodes:?} {copies} {x}");
            }
        }
    }
}
