//! Many fixed texts looked for in one pass: most lines of a log contain none of a hundred, and are asked by the million.

use std::collections::BTreeMap;

/// Texts by their first two bytes.
pub(crate) struct Needles {
    /// A bit for each pair of bytes that one of them begins with.
    begins: Vec<u64>,
    by_pair: BTreeMap<u16, Vec<(usize, &'static str)>>,
}

fn pair(bytes: &[u8]) -> u16 {
    u16::from_be_bytes([bytes[0], bytes[1]])
}

impl Needles {
    /// Each text with the number that it stands for. A text of less than two bytes is never found.
    pub(crate) fn new(texts: impl IntoIterator<Item = (usize, &'static str)>) -> Self {
        let mut needles = Needles { begins: vec![0; 1 << 10], by_pair: BTreeMap::new() };
        for (number, text) in texts.into_iter().filter(|t| t.1.len() >= 2) {
            let at = pair(text.as_bytes());
            needles.begins[usize::from(at >> 6)] |= 1 << (at & 63);
            needles.by_pair.entry(at).or_default().push((number, text));
        }
        needles
    }

    /// The least number of the texts that `line` contains.
    pub(crate) fn least(&self, line: &str) -> Option<usize> {
        let mut least: Option<usize> = None;
        for (at, two) in line.as_bytes().windows(2).enumerate() {
            let begins = pair(two);
            if self.begins[usize::from(begins >> 6)] >> (begins & 63) & 1 == 0 {
                continue;
            }
            let rest = &line.as_bytes()[at..];
            let found = self.by_pair.get(&begins).into_iter().flatten().filter(|t| rest.starts_with(t.1.as_bytes()));
            for (number, _) in found {
                least = Some(least.map_or(*number, |l| l.min(*number)));
            }
        }
        least
    }

    pub(crate) fn any(&self, line: &str) -> bool {
        self.least(line).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_in_the_list_counts_wherever_it_stands() {
        let n = Needles::new([(0, "No space"), (1, "磁盘"), (2, "Nothing"), (2, "ab")]);
        for (line, want) in [
            ("Nothing, for No space is left", Some(0)),
            ("磁盘 ab", Some(1)),
            ("xxab", Some(2)),
            ("No spac", None),
            ("", None),
            ("N", None),
        ] {
            assert_eq!(n.least(line), want, "{line}");
        }
    }
}
