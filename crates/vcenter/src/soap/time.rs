//! `xsd:dateTime`, as vSphere writes moments.

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::Timestamp;

/// `xsd:dateTime`, with or without a fraction and an offset, in milliseconds since 1970. Without an offset it is UTC.
pub fn parse_utc(text: &str) -> Option<i64> {
    // The parser takes a date alone as well.
    text.get(19..)?;
    let at = text.parse::<Timestamp>().or_else(|_| TimeZone::UTC.to_timestamp(text.parse::<DateTime>()?));
    at.ok().map(|at| at.as_millisecond())
}

/// A moment as `xsd:dateTime` in UTC, in whole seconds. Years after 9999 are 9999.
pub fn utc(wall_ms: i64) -> String {
    let end = if wall_ms < 0 { Timestamp::MIN } else { Timestamp::MAX };
    let at = Timestamp::from_millisecond(wall_ms).unwrap_or(end);
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_read_with_their_offset() {
        assert_eq!(parse_utc("2023-01-29T05:10:15.526Z"), Some(1_674_969_015_526));
        assert_eq!(parse_utc("2023-01-29T13:10:15.526123+08:00"), Some(1_674_969_015_526));
        assert_eq!(parse_utc("1970-01-01T00:00:00Z"), Some(0));
        assert_eq!(parse_utc("2023-01-29T05:10:15"), Some(1_674_969_015_000));
        assert_eq!(utc(1_674_969_015_526), "2023-01-29T05:10:15Z");
        for ms in [0, 951_782_400_000, 4_107_542_399_000, 1_709_164_800_000] {
            assert_eq!(parse_utc(&utc(ms)), Some(ms));
        }
        for bad in [
            "",
            "now",
            "2023-01-29",
            "2023-01-29T05:10:15x",
            "2023-13-29T05:10:15Z",
            "2023-02-30T05:10:15Z",
            "äääääääääääääää",
        ] {
            assert_eq!(parse_utc(bad), None, "{bad}");
        }
    }
}
