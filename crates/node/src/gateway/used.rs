//! The attribute `used` of files, true to the block: what a copy of each of the file's extents takes on its disk.
//!
//! Used space is measured when a client asks for attributes, and not more often than it matters; until then what was written
//! through this gateway is added to what was measured last. Nothing waits for long: where a chunk server does not answer,
//! the extents count whole.

use super::Inner;
use futures_util::future::join_all;
use parking_lot::Mutex;
use prost::Message;
use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use trivet_storage::messages::*;
use trivet_storage::metadata::state::EXTENT_BYTES;

/// Shortest time between two measurements of a file that is written to.
const AGAIN: Duration = Duration::from_secs(1);
/// Time between two measurements of a file without writes here; other gateways may write to it.
const SETTLED: Duration = Duration::from_secs(10);
/// Time within which a chunk server has to answer, or its extents count with their full size.
const LIMIT: Duration = Duration::from_millis(300);
/// Files whose used bytes are remembered; a further one clears all, and they are measured again on demand.
const FILES_MAX: usize = 65_536;
const BLOCK_BYTES: u64 = 4_096;

#[derive(Debug, Clone)]
struct Entry {
    /// As measured last; `None`: no chunk server answered.
    bytes: Option<u64>,
    /// Written since then, whether it was a hole before or not.
    grown: u64,
    measured: Instant,
    changed: Instant,
}

#[derive(Default)]
pub(super) struct Used(Mutex<HashMap<FileId, Entry>>);

impl Used {
    /// Whether the file is to be measured now. Others that ask meanwhile get what was measured before. Returns what had been
    /// written by then.
    fn due(&self, file: FileId, now: Instant) -> Option<u64> {
        let mut files = self.0.lock();
        let Some(e) = files.get_mut(&file) else { return Some(0) };
        let since = now.duration_since(e.measured);
        let changing = e.changed + AGAIN > e.measured;
        if since < AGAIN || !changing && since < SETTLED {
            return None;
        }
        e.measured = now;
        Some(e.grown)
    }

    fn measured(&self, file: FileId, bytes: Option<u64>, grown_before: u64, now: Instant) {
        let mut files = self.0.lock();
        if files.len() >= FILES_MAX && !files.contains_key(&file) {
            files.clear();
        }
        let e = files.entry(file).or_insert(Entry { bytes: None, grown: 0, measured: now, changed: now });
        if bytes.is_some() {
            (e.bytes, e.grown) = (bytes, e.grown.saturating_sub(grown_before));
        }
    }

    fn known(&self, file: FileId) -> Option<u64> {
        let files = self.0.lock();
        files.get(&file).and_then(|e| Some(e.bytes?.saturating_add(e.grown)))
    }

    /// Counts a write of these bytes. A file that was empty had no block.
    pub(super) fn wrote(&self, before: &Attr, offset: u64, length: u64) {
        let blocks = (offset + length).div_ceil(BLOCK_BYTES) - offset / BLOCK_BYTES;
        if before.size == 0 {
            self.measured(before.fileid, Some(0), u64::MAX, Instant::now());
        }
        if let Some(e) = self.0.lock().get_mut(&before.fileid) {
            e.grown += blocks * BLOCK_BYTES;
            e.changed = Instant::now();
        }
    }

    /// The file's size was set: what grows gets holes only, and what is left of one that shrinks has to be measured.
    pub(super) fn resized(&self, before: &Attr, after: &Attr) {
        if before.size == 0 || after.size == 0 {
            self.measured(after.fileid, Some(0), u64::MAX, Instant::now());
        } else if after.size < before.size {
            self.0.lock().remove(&after.fileid);
        }
    }
}

impl Inner {
    /// The attributes as clients get them, with the room that the file takes.
    pub(super) async fn with_used(&self, attr: Attr) -> Attr {
        if attr.kind == FileKind::File && attr.used_bytes() > 0 {
            if let Some(grown) = self.used.due(attr.fileid, Instant::now()) {
                let bytes = self.measure_used(&attr).await;
                self.used.measured(attr.fileid, bytes, grown, Instant::now());
            }
        }
        self.with_used_as_known(attr)
    }

    /// Likewise, without asking anybody.
    pub(super) fn with_used_as_known(&self, mut attr: Attr) -> Attr {
        if attr.kind == FileKind::File {
            if let Some(bytes) = self.used.known(attr.fileid) {
                attr.allocated = Some(bytes.min(attr.used_bytes()));
            }
        }
        attr
    }

    async fn measure_used(&self, attr: &Attr) -> Option<u64> {
        let extents = self.replica.read().extents(attr.fileid);
        // This gateway's copy of the metadata may not have heard of the newest extent yet.
        if attr.allocated.is_some_and(|bytes| bytes > extents.len() as u64 * EXTENT_BYTES) {
            return None;
        }
        let mut of_server: BTreeMap<SocketAddr, Vec<ExtentId>> = BTreeMap::new();
        for cfg in extents.iter().filter(|c| !c.unused) {
            let address =
                |r: &ReplicaRef| Some((self.client(self.address_of(r)?).down_ms(), r.node, self.address_of(r)?));
            let near = cfg
                .replicas
                .iter()
                .filter_map(address)
                .min_by_key(|(down, node, _)| (*down, *node != self.settings.node));
            of_server.entry(near?.2).or_default().push(cfg.eid);
        }
        let ask = |(server, eids): (SocketAddr, &[ExtentId])| {
            let body = UsageAsk { extents: eids.to_vec() }.encode_to_vec();
            async move { UsageAnswer::decode(self.client(server).ask(CallKind::Usage, &body, LIMIT).await.ok()?).ok() }
        };
        let pieces =
            of_server.iter().flat_map(|(s, eids)| eids.chunks(USAGE_EXTENTS_MAX).map(move |piece| (*s, piece)));
        let answers: Option<Vec<UsageAnswer>> = join_all(pieces.map(ask)).await.into_iter().collect();
        let answers = answers?;
        let answered: usize = answers.iter().map(|a| a.extents.len()).sum();
        let bytes = answers.iter().flat_map(|a| &a.extents).map(|e| e.bytes).sum();
        // A copy that is being filled reports no size.
        let asked: usize = of_server.values().map(Vec::len).sum();
        Some(bytes).filter(|_| answered == asked)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_added_until_it_is_measured_again() {
        let (used, begun) = (Used::default(), Instant::now());
        let at = |ms| begun + Duration::from_millis(ms);
        let attr = |size| Attr { kind: FileKind::File, fileid: FileId(7), size, ..Default::default() };
        assert_eq!((used.due(FileId(7), begun), used.known(FileId(7))), (Some(0), None));
        used.wrote(&attr(9_000), 0, 1);
        assert_eq!(used.known(FileId(7)), None, "it had content before");
        used.measured(FileId(7), Some(12_288), 0, begun);
        // Two blocks are touched.
        used.wrote(&attr(9_000), 4_000, 200);
        assert_eq!((used.known(FileId(7)), used.due(FileId(7), at(500))), (Some(20_480), None));
        let grown = used.due(FileId(7), at(1_500));
        assert_eq!(
            (grown, used.due(FileId(7), at(1_500))),
            (Some(8_192), None),
            "one measures, the others do not wait"
        );
        used.wrote(&attr(9_000), 0, 4_096);
        used.measured(FileId(7), Some(16_384), 8_192, at(1_600));
        assert_eq!(used.known(FileId(7)), Some(20_480), "what was written meanwhile counts");
        used.measured(FileId(7), None, 0, at(1_700));
        assert_eq!(used.known(FileId(7)), Some(20_480), "nobody answered");
        used.resized(&attr(9_000), &attr(1 << 40));
        assert_eq!(used.known(FileId(7)), Some(20_480), "a hole takes nothing");
        used.resized(&attr(9_000), &attr(5_000));
        assert_eq!((used.known(FileId(7)), used.due(FileId(7), at(1_800))), (None, Some(0)));
        used.resized(&attr(5_000), &attr(0));
        assert_eq!(used.known(FileId(7)), Some(0));
        used.resized(&attr(0), &attr(100 << 30));
        assert_eq!(used.known(FileId(7)), Some(0));
        used.wrote(&attr(0), 0, 4_097);
        assert_eq!(used.known(FileId(7)), Some(8_192), "it was empty");
    }

    #[test]
    fn a_file_that_rests_is_measured_less_often_and_all_of_them_are_bounded() {
        let (used, begun) = (Used::default(), Instant::now());
        used.measured(FileId(7), Some(0), 0, begun);
        let at = |s| begun + Duration::from_secs(s);
        assert_eq!(
            (used.due(FileId(7), at(2)), used.due(FileId(7), at(3)), used.due(FileId(7), at(13))),
            (Some(0), None, Some(0))
        );
        for file in 0..=FILES_MAX as u64 {
            used.measured(FileId(100 + file), Some(1), 0, begun);
        }
        assert!(used.0.lock().len() <= FILES_MAX);
    }
}
