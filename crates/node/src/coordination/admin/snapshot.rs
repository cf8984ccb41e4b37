//! A snapshot on demand, written beside the log as any other and sent to the caller.

use super::shapes::Object;
use super::{answer, Server};
use crate::coordination::store::numbered;
use axum::body::{Body, Bytes};
use axum::http::{header, StatusCode};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, UNIX_EPOCH};

/// A snapshot that is not on disk within this is reported as failed; it may still be finished.
const WRITTEN_WITHIN: Duration = Duration::from_secs(300);
/// Pause between two looks whether it is.
const LOOK: Duration = Duration::from_millis(20);
/// Bytes of a snapshot that are in memory at once for a caller.
const PART_BYTES: usize = 256 << 10;

/// Allows one snapshot in each interval.
//= zookeeper 3.9 server/util/RateLimiter.java
pub(super) struct RateLimit {
    pause: Duration,
    last: Mutex<Option<Instant>>,
}

impl RateLimit {
    pub(super) fn new(pause: Duration) -> RateLimit {
        RateLimit { pause, last: Mutex::new(None) }
    }

    pub(super) fn allow(&self, now: Instant) -> bool {
        let mut last = self.last.lock();
        let free = last.is_none_or(|last| now.saturating_duration_since(last) > self.pause);
        if free {
            *last = Some(now);
        }
        free
    }
}

impl Server {
    /// Takes a snapshot, and sends it unless `streaming=false`. The headers are Apache's.
    //= zookeeper 3.9 Commands.SnapshotCommand
    pub(super) async fn snapshot(&self, query: &BTreeMap<String, String>) -> Response {
        let failed = |status, error| answer(status, "snapshot", Some(error), Object::new());
        if !self.settings.snapshot {
            return failed(StatusCode::SERVICE_UNAVAILABLE, "admin.snapshot.enabled is false");
        }
        if !self.snapshots.allow(Instant::now()) {
            return failed(
                StatusCode::TOO_MANY_REQUESTS,
                "a snapshot was taken a moment ago; admin.rateLimiterIntervalInMS says how often",
            );
        }
        let streaming = query.get("streaming").is_none_or(|v| v.eq_ignore_ascii_case("true"));
        let Some(zxid) = self.handle.take_snapshot().await else {
            return failed(StatusCode::INTERNAL_SERVER_ERROR, "the server did not begin a snapshot");
        };
        let name = format!("snapshot.{:x}{}", zxid.0, self.settings.packing.ending());
        let path = self.settings.data_dir.join("version-2").join(name);
        let Some(size) = written(&path).await else {
            return failed(StatusCode::INTERNAL_SERVER_ERROR, "the snapshot is not on disk in time; the log says why");
        };
        let headers = [("last_zxid", format!("0x{:x}", zxid.0)), ("snapshot_size", size.to_string())];
        if !streaming {
            return (headers, answer(StatusCode::OK, "snapshot", None, Object::new())).into_response();
        }
        match std::fs::File::open(&path) {
            Ok(file) => {
                let kind = [(header::CONTENT_TYPE, "application/octet-stream")];
                (headers, kind, Body::from_stream(parts(file))).into_response()
            }
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "a snapshot cannot be sent");
                failed(StatusCode::INTERNAL_SERVER_ERROR, "the snapshot cannot be read; the log says why")
            }
        }
    }
}

/// Reads block for a moment; the runtime serves nothing but this and metrics.
fn parts(file: std::fs::File) -> impl stream::Stream<Item = io::Result<Bytes>> {
    stream::try_unfold(file, |mut file| async move {
        let mut part = vec![0; PART_BYTES];
        let n = file.read(&mut part)?;
        part.truncate(n);
        Ok((n > 0).then(|| (Bytes::from(part), file)))
    })
}

/// Waits until the file has its name, which it gets when all of it is on disk; its size.
async fn written(path: &Path) -> Option<u64> {
    let end = Instant::now() + WRITTEN_WITHIN;
    while Instant::now() < end {
        if let Ok(meta) = std::fs::metadata(path) {
            return Some(meta.len());
        }
        tokio::time::sleep(LOOK).await;
    }
    None
}

/// The newest snapshot: its zxid, and when it was written, in seconds since 1970.
pub(super) fn newest(data_dir: &Path) -> Option<(i64, i64)> {
    let (zxid, path): (trivet_formats::Zxid, PathBuf) =
        numbered(&data_dir.join("version-2"), "snapshot.").ok()?.pop()?;
    let time = std::fs::metadata(path).and_then(|m| m.modified()).ok()?;
    let seconds = time.duration_since(UNIX_EPOCH).map_or(0, |s| s.as_secs());
    Some((zxid.0, i64::try_from(seconds).unwrap_or(i64::MAX)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_snapshot_in_each_interval() {
        let limit = RateLimit::new(Duration::from_secs(300));
        let begun = Instant::now();
        assert!(limit.allow(begun));
        assert!(!limit.allow(begun));
        assert!(!limit.allow(begun + Duration::from_secs(300)));
        assert!(limit.allow(begun + Duration::from_secs(301)));
        assert!(!limit.allow(begun + Duration::from_secs(302)));
    }
}
