//! Times as log lines have them: no zone, milliseconds. The calendar is that of the crate `jiff`.

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::Timestamp;

/// Milliseconds since 1970, in the log's own clock.
pub type LogMillis = i64;

const DAY_MS: i64 = 86_400_000;

/// `2023-01-25T19:05:05,818`, with a blank instead of the T and a point instead of the comma as well: the time, and
/// how many bytes it took.
pub fn parse(text: &[u8]) -> Option<(LogMillis, usize)> {
    let digits = |from: usize, n: usize| -> Option<i64> {
        text.get(from..from + n)?
            .iter()
            .try_fold(0, |sum, b| b.is_ascii_digit().then(|| sum * 10 + i64::from(b - b'0')))
    };
    let is = |at: usize, any: &[u8]| text.get(at).is_some_and(|b| any.contains(b));
    if !(is(4, b"-") && is(7, b"-") && is(10, b"T ") && is(13, b":") && is(16, b":") && is(19, b",.")) {
        return None;
    }
    let (year, month, day) = (digits(0, 4)?, digits(5, 2)?, digits(8, 2)?);
    let (hour, minute, second, ms) = (digits(11, 2)?, digits(14, 2)?, digits(17, 2)?, digits(20, 3)?);
    if hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    Some((days(year, month, day)? * DAY_MS + ((hour * 60 + minute) * 60 + second) * 1_000 + ms, 23))
}

/// A time that a person typed, such as `2023-01-29T05:10:15.5` or a prefix of it; without a date it is on the day of
/// `day_of`.
pub fn moment(text: &str, day_of: LogMillis) -> Option<LogMillis> {
    let (date, clock) = match text.split_once(['T', ' ']) {
        Some((date, clock)) => (Some(date), clock),
        None if text.contains('-') => (Some(text), "00:00"),
        None => (None, text),
    };
    if clock.len() < 5 {
        return None;
    }
    let full = |part: &str, of: &str| {
        if part.len() < of.len() {
            format!("{part}{}", &of[part.len()..])
        } else {
            part.to_string()
        }
    };
    let date = date.map_or_else(|| day(day_of), str::to_string);
    let text = format!("{date}T{}", full(&clock.replace(',', "."), "00:00:00.000"));
    let (at, used) = parse(text.as_bytes())?;
    (used == text.len()).then_some(at)
}

/// Days since 1970 of a date; `None` for one that no calendar has, such as 30 February.
pub(crate) fn days(year: i64, month: i64, day: i64) -> Option<i64> {
    let date = Date::new(i16::try_from(year).ok()?, i8::try_from(month).ok()?, i8::try_from(day).ok()?).ok()?;
    let begin = TimeZone::UTC.to_timestamp(date.at(0, 0, 0, 0)).ok()?;
    Some(begin.as_millisecond().div_euclid(DAY_MS))
}

/// Year, month and day of a time. Years before -9999 and after 9999 are those.
pub(crate) fn date(at: LogMillis) -> (i64, i64, i64) {
    let at = Timestamp::from_millisecond(at).unwrap_or(if at < 0 { Timestamp::MIN } else { Timestamp::MAX });
    let date = TimeZone::UTC.to_datetime(at).date();
    (date.year().into(), date.month().into(), date.day().into())
}

/// A time in another year; 29 February becomes 1 March where that year has none.
pub(crate) fn in_year(at: LogMillis, year: i64) -> LogMillis {
    let (_, month, day) = date(at);
    let days = days(year, month, day).or_else(|| days(year, month + 1, 1));
    days.map_or(at, |days| days * DAY_MS + at.rem_euclid(DAY_MS))
}

/// `2023-01-25T19:05:05.818`
pub fn long(at: LogMillis) -> String {
    let (year, month, day) = date(at);
    format!("{year:04}-{month:02}-{day:02}T{}", clock(at))
}

/// `2023-01-25`
pub fn day(at: LogMillis) -> String {
    let (year, month, day) = date(at);
    format!("{year:04}-{month:02}-{day:02}")
}

/// `19:05:05.818`
pub fn clock(at: LogMillis) -> String {
    let ms = at.rem_euclid(DAY_MS);
    format!("{:02}:{:02}:{:02}.{:03}", ms / 3_600_000, ms / 60_000 % 60, ms / 1_000 % 60, ms % 1_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_somebody_typed() {
        let (day, _) = parse(b"2023-01-29T05:10:15,526").unwrap();
        let is = |text: &str| moment(text, day).map(long);
        assert_eq!(is("05:10").as_deref(), Some("2023-01-29T05:10:00.000"));
        assert_eq!(is("2023-01-30").as_deref(), Some("2023-01-30T00:00:00.000"));
        assert_eq!(is("2023-01-30 06:01:02.5").as_deref(), Some("2023-01-30T06:01:02.500"));
        assert_eq!(is("2023-01-29T05:10:15,526").as_deref(), Some("2023-01-29T05:10:15.526"));
        for wrong in ["", "x", "25:00", "05:10:15.5267", "2023-01", "é"] {
            assert_eq!(is(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn times_are_read_and_written() {
        for text in
            ["2023-01-25T19:05:05.818", "2024-02-29T23:59:59.999", "1970-01-01T00:00:00.000", "2100-03-01T00:00:00.001"]
        {
            let (at, n) = parse(text.as_bytes()).unwrap();
            assert_eq!((long(at).as_str(), n), (text, 23));
        }
        assert_eq!(parse(b"1970-01-02 00:00:00,001 x"), Some((DAY_MS + 1, 23)));
        for wrong in [
            "2023-13-25T19:05:05,818",
            "2023-01-25T19:05:05",
            "2023-01-25T29:05:05,818",
            "",
            "xxxx",
            "2023-02-29T19:05:05,818",
            "2023-04-31T19:05:05,818",
        ] {
            assert_eq!(parse(wrong.as_bytes()), None, "{wrong}");
        }
    }
}
