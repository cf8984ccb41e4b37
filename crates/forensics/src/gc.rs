//! Lines of the Java collector's log: the only ones that name a zone, and the long pauses.
//!
//! `2023-01-29T05:10:15.123+0800: 12.345: [Full GC (...) ..., 1.2345678 secs] ...` of Java 8, and
//! `[2023-01-29T05:10:15.123+0800][info][gc] GC(3) Pause Young (...) 24M->4M(256M) 1234.5ms` of later ones.

use crate::time::{self, LogMillis};

/// A line of the JVM's garbage collector.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GcLine {
    /// The time of the line.
    pub at: LogMillis,
    /// As `+08:00`.
    pub zone: String,
    /// Milliseconds for which the program was paused; 0 if the line reports no pause.
    pub pause_ms: u64,
}

/// The length of a time with its zone.
const TIME_BYTES: usize = 28;

/// Reads a line of the collector's log, in the form before JDK 9 or the unified one. `None`: it is none.
pub fn line(text: &str) -> Option<GcLine> {
    let text = text.strip_prefix('[').unwrap_or(text);
    // Times of other programs have a zone, too; only in a collector's line `][` or `: ` follows it.
    if !text.as_bytes().get(TIME_BYTES..).is_some_and(|rest| rest.starts_with(b"][") || rest.starts_with(b": ")) {
        return None;
    }
    let (at, n) = time::parse(text.as_bytes())?;
    let rest = text.get(n..)?;
    let zone = rest.get(..5)?;
    let digits = zone.get(1..)?;
    if !zone.starts_with(['+', '-']) || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let rest = rest[5..].trim_start_matches([']', ':']);
    let zone = format!("{}:{}", &zone[..3], &zone[3..]);
    let seconds = rest.rsplit_once(" secs]").and_then(|(r, _)| r.rsplit([' ', ',', '=']).next()?.parse::<f64>().ok());
    let paused = rest.contains("Pause ").then(|| rest.trim_end().strip_suffix("ms")).flatten();
    let ms = paused.and_then(|r| r.rsplit(' ').next()?.parse::<f64>().ok());
    // A number from outside may be missing, negative or too large; the result stays within bounds.
    let pause_ms = ms.or(seconds.map(|s| s * 1_000.0)).map_or(0, |ms| ms.clamp(0.0, 1e12) as u64);
    Some(GcLine { at, zone, pause_ms })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zones_and_pauses_of_both_forms() {
        let of = |text: &str| line(text).map(|g| (time::clock(g.at), g.zone, g.pause_ms));
        let want = |ms: u64| Some(("05:10:15.123".to_string(), "+08:00".to_string(), ms));
        let old = "2023-01-29T05:10:15.123+0800: 12.345: [Full GC (Ergonomics) 1K->1K(2K), 1.2345678 secs] [Times: user=1.00 sys=0.10, real=1.23 secs]";
        assert_eq!(of(old), want(1_230));
        assert_eq!(
            of("2023-01-29T05:10:15.123+0800: 12.3: [GC (Allocation Failure) 1K->1K(2K), 0.0123000 secs]"),
            want(12)
        );
        assert_eq!(
            of("[2023-01-29T05:10:15.123+0800][info][gc] GC(3) Pause Young (Normal) 24M->4M(256M) 2345.6ms"),
            want(2_345)
        );
        assert_eq!(of("[2023-01-29T05:10:15.123+0800][info][gc,heap] GC(3) Eden regions: 1->2(3)"), want(0));
        for other in
            ["2023-01-29T05:10:15,123 [myid:1] - INFO  [a:B@1] - c", "2023-01-29T05:10:15.123+08é0", "[gc]", ""]
        {
            assert_eq!(of(other), None, "{other}");
        }
    }
}
