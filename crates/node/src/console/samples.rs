//! Figures of the last 24 hours every 10 s, and of the last 30 days every 5 min, in two files that never grow.
//!
//! A file is a ring: a sample's place follows from its time, so that nothing has to be found, moved or deleted. Each record
//! has a checksum; one that was not written whole is not there. Nothing is synced: after a power cut the last few may be
//! missing.

use parking_lot::Mutex;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;

/// The figures of a sample. The place of a figure in the file is its number here: new ones come at the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(usize)]
pub enum Figure {
    /// 0 OK, 1 degraded, 2 unavailable.
    Level = 0,
    /// Node that leads the coordination ensemble.
    CoordinationLeader,
    /// Node whose metad leads.
    MetadLeader,
    /// Alerts that fire.
    Firing,
    /// NFS calls a second, of all gateways, as a mean of the last minute.
    CallsPerSecond,
    /// Bytes a second that NFS clients read.
    ReadBytesPerSecond,
    /// Bytes a second that NFS clients wrote.
    WriteBytesPerSecond,
    /// Median time of NFS calls, in milliseconds, of the slowest datastore.
    MedianMs,
    /// 99th percentile of the time of NFS calls, in milliseconds, of the slowest datastore.
    P99Ms,
    /// Free space of the fullest disk, in percent.
    FreePercent,
    /// Extents with fewer complete copies than their datastore asks for.
    CopiesMissing,
    /// Loss on the worst path between nodes, in percent.
    LossPercent,
    /// Round trip on the slowest path between nodes, in milliseconds.
    RoundTripMs,
    /// 99th percentile of the time that a sync takes, in milliseconds, of the slowest disk.
    SyncMs,
    /// NFS clients that are connected.
    Clients,
    /// Largest offset between the clocks of two nodes, in milliseconds.
    ClockOffsetMs,
}

/// Number of figures in a sample.
pub const FIGURES: usize = 16;
/// Their names in the API, by number.
pub const NAMES: [&str; FIGURES] = [
    "health_level",
    "coordination_leader",
    "metad_leader",
    "alerts_firing",
    "nfs_calls_per_second",
    "nfs_read_bytes_per_second",
    "nfs_write_bytes_per_second",
    "nfs_p50_ms",
    "nfs_p99_ms",
    "disk_free_percent_min",
    "extents_missing_copies",
    "link_loss_percent_max",
    "link_round_trip_ms_max",
    "disk_sync_p99_ms_max",
    "nfs_clients",
    "clock_offset_ms_max",
];

/// A moment of the cluster in figures.
/// NaN: not known.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sample {
    /// Milliseconds since 1970.
    pub at_ms: i64,
    /// The figures by their numbers ([`Figure`]); NaN for one that is not known.
    pub values: [f32; FIGURES],
}

impl Sample {
    /// A sample of which no figure is known yet.
    pub fn new(at_ms: i64) -> Sample {
        Sample { at_ms, values: [f32::NAN; FIGURES] }
    }
    /// Sets a figure.
    pub fn set(&mut self, figure: Figure, value: Option<f64>) {
        self.values[figure as usize] = value.map_or(f32::NAN, |v| v as f32);
    }
    /// A figure, if it is known.
    pub fn get(&self, figure: Figure) -> Option<f32> {
        Some(self.values[figure as usize]).filter(|v| !v.is_nan())
    }
}

/// Time between two samples of the fine file, in milliseconds.
pub const FINE_MS: i64 = 10_000;
/// Time that a sample of the coarse file sums up, in milliseconds.
pub const COARSE_MS: i64 = 300_000;
/// 24 hours of one, and 30 days of the other.
const SLOTS: i64 = 8_640;
const RECORD_BYTES: usize = 8 + 4 * FIGURES + 4;
const HEADER: &[u8; 16] = b"TRIVET SAMPLES 1";

struct Ring {
    file: File,
    period_ms: i64,
}

impl Ring {
    fn open(path: &Path, period_ms: i64) -> std::io::Result<Ring> {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        let mut header = [0; 16];
        let known = file.read_exact_at(&mut header, 0).is_ok() && header == *HEADER;
        if !known {
            // A file of another version, or an empty one, is replaced.
            file.set_len(0)?;
            file.write_all_at(HEADER, 0)?;
        }
        Ok(Ring { file, period_ms })
    }

    fn put(&self, sample: &Sample) -> std::io::Result<()> {
        let slot = sample.at_ms.div_euclid(self.period_ms).rem_euclid(SLOTS) as u64;
        let mut record = Vec::with_capacity(RECORD_BYTES);
        record.extend_from_slice(&sample.at_ms.to_le_bytes());
        sample.values.iter().for_each(|v| record.extend_from_slice(&v.to_le_bytes()));
        record.extend_from_slice(&crc32c::crc32c(&record).to_le_bytes());
        self.file.write_all_at(&record, HEADER.len() as u64 + slot * RECORD_BYTES as u64)
    }

    /// In the order of their times.
    fn read(&self, from_ms: i64, to_ms: i64) -> std::io::Result<Vec<Sample>> {
        let mut bytes = vec![0; SLOTS as usize * RECORD_BYTES];
        let mut have = 0;
        while have < bytes.len() {
            let n = self.file.read_at(&mut bytes[have..], (HEADER.len() + have) as u64)?;
            if n == 0 {
                break;
            }
            have += n;
        }
        let mut all: Vec<Sample> = bytes[..have].chunks_exact(RECORD_BYTES).filter_map(decoded).collect();
        all.retain(|s| (from_ms..=to_ms).contains(&s.at_ms));
        all.sort_by_key(|s| s.at_ms);
        Ok(all)
    }
}

fn decoded(record: &[u8]) -> Option<Sample> {
    let (body, sum) = record.split_at(RECORD_BYTES - 4);
    if crc32c::crc32c(body) != u32::from_le_bytes(sum.try_into().ok()?) {
        return None;
    }
    let mut sample = Sample::new(i64::from_le_bytes(body[..8].try_into().ok()?));
    for (v, bytes) in sample.values.iter_mut().zip(body[8..].chunks_exact(4)) {
        *v = f32::from_le_bytes(bytes.try_into().ok()?);
    }
    Some(sample)
}

/// The fine samples of one coarse one.
#[derive(Default)]
struct Sums {
    period: Option<i64>,
    samples: Vec<Sample>,
}

/// A mean hides what these are for: the worst counts. Of leaders the last one counts.
fn folded(figure: usize, samples: &[Sample]) -> f32 {
    let known = || samples.iter().map(|s| s.values[figure]).filter(|v| !v.is_nan());
    let count = known().count();
    if count == 0 {
        return f32::NAN;
    }
    let is = |f: Figure| f as usize == figure;
    if is(Figure::CoordinationLeader) || is(Figure::MetadLeader) {
        samples.last().map_or(f32::NAN, |s| s.values[figure])
    } else if is(Figure::FreePercent) {
        known().fold(f32::INFINITY, f32::min)
    } else if [Figure::CallsPerSecond, Figure::ReadBytesPerSecond, Figure::WriteBytesPerSecond, Figure::MedianMs]
        .into_iter()
        .any(is)
    {
        known().sum::<f32>() / count as f32
    } else {
        known().fold(f32::NEG_INFINITY, f32::max)
    }
}

/// The figures of the last day and of the last month, in two files of fixed size that are written in a ring.
pub struct Samples {
    fine: Ring,
    coarse: Ring,
    sums: Mutex<Sums>,
}

/// The methods read and write files of a few hundred kilobytes, so they must not run on a thread that others wait for.
impl Samples {
    /// # Errors
    /// The files cannot be used.
    pub fn open(folder: &Path) -> std::io::Result<Samples> {
        Ok(Samples {
            fine: Ring::open(&folder.join("samples-10s"), FINE_MS)?,
            coarse: Ring::open(&folder.join("samples-5min"), COARSE_MS)?,
            sums: Mutex::default(),
        })
    }

    /// # Errors
    /// The file cannot be written.
    pub fn put(&self, sample: &Sample) -> std::io::Result<()> {
        let period = sample.at_ms.div_euclid(COARSE_MS);
        let mut sums = self.sums.lock();
        if sums.period != Some(period) {
            let before = std::mem::replace(&mut *sums, Sums { period: Some(period), samples: Vec::new() });
            if let (Some(number), false) = (before.period, before.samples.is_empty()) {
                let mut coarse = Sample::new(number * COARSE_MS);
                for (i, v) in coarse.values.iter_mut().enumerate() {
                    *v = folded(i, &before.samples);
                }
                self.coarse.put(&coarse)?;
            }
        }
        // Samples with equal times must not fill the memory.
        if sums.samples.len() < (2 * COARSE_MS / FINE_MS) as usize {
            sums.samples.push(*sample);
        }
        drop(sums);
        self.fine.put(sample)
    }

    /// Samples of this time; beyond 24 hours the coarse ones.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn read(&self, from_ms: i64, to_ms: i64) -> std::io::Result<Vec<Sample>> {
        let ring = if to_ms - from_ms <= SLOTS * FINE_MS { &self.fine } else { &self.coarse };
        ring.read(from_ms.max(to_ms - SLOTS * ring.period_ms + ring.period_ms), to_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(at_ms: i64, calls: f64, p99: f64) -> Sample {
        let mut s = Sample::new(at_ms);
        s.set(Figure::CallsPerSecond, Some(calls));
        s.set(Figure::P99Ms, Some(p99));
        s
    }

    #[test]
    fn samples_outlive_a_restart_and_the_files_do_not_grow() {
        let dir = tempfile::tempdir().unwrap();
        let day = 86_400_000;
        let samples = Samples::open(dir.path()).unwrap();
        // Two days: the first one goes from the fine file and stays in the coarse one.
        let from = 1_700_000_000_000 / COARSE_MS * COARSE_MS;
        for i in 0..2 * SLOTS {
            samples.put(&sample(from + i * FINE_MS, (i % 30) as f64, if i % 30 == 7 { 900.0 } else { 1.0 })).unwrap();
        }
        drop(samples);
        let samples = Samples::open(dir.path()).unwrap();
        let now = from + 2 * day - FINE_MS;
        let fine = samples.read(now - day + FINE_MS, now).unwrap();
        assert_eq!((fine.len() as i64, fine[0].at_ms, fine.last().unwrap().at_ms), (SLOTS, from + day, now));
        assert_eq!((fine[8].get(Figure::CallsPerSecond), fine[8].get(Figure::FreePercent)), (Some(8.0), None));
        let coarse = samples.read(now - 30 * day, now).unwrap();
        assert_eq!(coarse.len(), 2 * 288 - 1, "the last five minutes are not over");
        // The mean of the calls, and the worst latency.
        assert_eq!((coarse[3].get(Figure::CallsPerSecond), coarse[3].get(Figure::P99Ms)), (Some(14.5), Some(900.0)));
        for name in ["samples-10s", "samples-5min"] {
            let bytes = std::fs::metadata(dir.path().join(name)).unwrap().len();
            assert!(bytes <= 16 + SLOTS as u64 * RECORD_BYTES as u64, "{name}: {bytes}");
        }
    }

    #[test]
    fn a_record_that_was_not_written_whole_is_not_there_and_another_version_is_begun_anew() {
        let dir = tempfile::tempdir().unwrap();
        let samples = Samples::open(dir.path()).unwrap();
        samples.put(&sample(0, 1.0, 1.0)).unwrap();
        samples.put(&sample(FINE_MS, 2.0, 2.0)).unwrap();
        samples.fine.file.write_all_at(&[9], 16 + 20).unwrap();
        assert_eq!(samples.read(0, 60_000).unwrap().iter().map(|s| s.at_ms).collect::<Vec<_>>(), [FINE_MS]);
        std::fs::write(dir.path().join("samples-10s"), b"TRIVET SAMPLES 9 and more").unwrap();
        assert_eq!(Samples::open(dir.path()).unwrap().read(0, 60_000).unwrap(), []);
    }
}
