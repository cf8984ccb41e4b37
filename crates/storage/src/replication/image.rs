//! The final content of a set of records: what a roll-forward writes, once, instead of the records (rule R9).

use crate::messages::{Range, Record};
use bytes::{Bytes, BytesMut};
use std::collections::BTreeMap;

/// Ranges, in ascending order and without overlap, and their bytes after all records were applied in the given order.
/// No byte of an extent is in it twice, so that an image of images does not grow.
pub fn final_image<'a>(records: impl Iterator<Item = &'a Record>) -> (Vec<Range>, Bytes) {
    // Start of a piece to its end and its bytes; `None` stands for zeros, or for bad blocks.
    let mut pieces: Pieces = BTreeMap::new();
    for record in records {
        for (range, data) in record.pieces() {
            let (start, end) = (range.offset, range.offset + range.length);
            if start < end {
                cut(&mut pieces, start, end);
                pieces.insert(start, (end, data, range.bad));
            }
        }
    }
    let mut ranges: Vec<Range> = Vec::new();
    let mut bytes = BytesMut::new();
    for (start, (end, data, bad)) in pieces {
        let zero = data.is_none();
        bytes.extend_from_slice(data.as_deref().unwrap_or_default());
        match ranges.last_mut() {
            Some(last) if last.zero == zero && last.bad == bad && last.offset + last.length == start => {
                last.length += end - start
            }
            _ => ranges.push(Range { offset: start, length: end - start, zero, bad }),
        }
    }
    (ranges, bytes.freeze())
}

type Pieces = BTreeMap<u64, (u64, Option<Bytes>, bool)>;

/// Takes `start..end` out of the pieces.
fn cut(pieces: &mut Pieces, start: u64, end: u64) {
    // The pieces do not overlap, so that only the last one that begins before `end` can be followed by others in it.
    while let Some((&from, (to, ..))) = pieces.range(..end).next_back() {
        if *to <= start {
            return;
        }
        let (to, data, bad) = pieces.remove(&from).expect("just found");
        let part = |a: u64, b: u64| data.as_ref().map(|d| d.slice((a - from) as usize..(b - from) as usize));
        if to > end {
            pieces.insert(end, (to, part(end, to), bad));
        }
        if from < start {
            return drop(pieces.insert(from, (start, part(from, start), bad)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn apply(content: &mut [u8], record: &Record) {
        for (range, data) in record.pieces() {
            let to = &mut content[range.offset as usize..(range.offset + range.length) as usize];
            match data {
                Some(data) => to.copy_from_slice(&data),
                None => to.fill(if range.bad { 255 } else { 0 }),
            }
        }
    }

    #[test]
    fn an_image_is_what_its_records_leave_and_is_no_larger_than_what_they_cover() {
        const EXTENT: u64 = 64;
        let mut seed = 1u64;
        let mut random = |below: u64| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) % below
        };
        for _ in 0..500 {
            let mut records = Vec::new();
            for _ in 0..random(12) {
                let mut record = Record::default();
                let mut data = Vec::new();
                for _ in 0..random(4) {
                    let offset = random(EXTENT);
                    let length = random(EXTENT - offset + 1);
                    let zero = random(3) == 0;
                    let bad = zero && random(2) == 0;
                    record.ranges.push(Range { offset, length, zero, bad });
                    if !zero {
                        data.extend((0..length).map(|_| random(254) as u8 + 1));
                    }
                }
                record.data = data.into();
                records.push(record);
            }
            let before: Vec<u8> = (0..EXTENT as u8).collect();
            let mut expected = before.clone();
            records.iter().for_each(|r| apply(&mut expected, r));
            let (ranges, data) = final_image(records.iter());
            assert!(ranges.windows(2).all(|p| p[0].offset + p[0].length <= p[1].offset), "{ranges:?}");
            let image = Record { ranges, data, ..Default::default() };
            assert!(image.well_formed(EXTENT));
            let mut after = before;
            apply(&mut after, &image);
            assert_eq!(after, expected);
            let again = final_image([&image, &image].into_iter());
            assert_eq!((again.0, again.1), (image.ranges, image.data));
        }
    }
}
