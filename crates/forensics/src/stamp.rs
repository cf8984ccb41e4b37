//! Times as logs of any origin write them: ISO with and without fractions and zones, dates with slashes or names of
//! months, 12-hour clocks, no year, no date, and seconds or milliseconds since 1970.

use crate::time::{self, LogMillis};

/// A time as it stands in a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// Milliseconds since 1970 of the clock's face; without a year it is of `LEAP_YEAR`, without a date of 1970-01-01.
    pub at: LogMillis,
    /// Minutes that the clock is ahead of UTC, where the line says so.
    pub zone_min: Option<i32>,
    /// The line names the year.
    pub has_year: bool,
    /// The line names the date.
    pub has_date: bool,
    /// The clock's step in this line, in milliseconds: 1, or 1000 without a fraction.
    pub step_ms: u16,
}

/// Has every day that a date without a year may name.
pub const LEAP_YEAR: i64 = 2000;
const MONTHS: [&[u8; 3]; 12] =
    [b"jan", b"feb", b"mar", b"apr", b"may", b"jun", b"jul", b"aug", b"sep", b"oct", b"nov", b"dec"];
const WEEKDAYS: [&[u8; 3]; 7] = [b"mon", b"tue", b"wed", b"thu", b"fri", b"sat", b"sun"];
/// Seconds since 1970 are taken for a time between these (2001 and 2096): any other number is something else.
pub(crate) const EPOCH_S: std::ops::Range<i64> = 1_000_000_000..4_000_000_000;
const DAY_MS: i64 = 86_400_000;

struct Cursor<'a> {
    text: &'a [u8],
    at: usize,
}

impl Cursor<'_> {
    fn rest(&self) -> &[u8] {
        self.text.get(self.at..).unwrap_or_default()
    }
    fn peek(&self) -> u8 {
        self.text.get(self.at).copied().unwrap_or(0)
    }
    fn eat(&mut self, any: &[u8]) -> bool {
        let is = self.at < self.text.len() && any.contains(&self.peek());
        self.at += usize::from(is);
        is
    }
    fn eat_text(&mut self, text: &str) -> bool {
        let is = self.rest().starts_with(text.as_bytes());
        self.at += if is { text.len() } else { 0 };
        is
    }
    fn digits(&self) -> usize {
        self.rest().iter().take_while(|b| b.is_ascii_digit()).count()
    }
    /// A number of `min` to `max` digits; more digits are none.
    fn number(&mut self, min: usize, max: usize) -> Option<i64> {
        let n = self.digits();
        (min..=max).contains(&n).then(|| self.taken(n))
    }
    fn taken(&mut self, n: usize) -> i64 {
        let number =
            self.rest()[..n].iter().fold(0i64, |sum, b| sum.saturating_mul(10).saturating_add(i64::from(b - b'0')));
        self.at += n;
        number
    }
    fn word(&mut self, of: &[&[u8; 3]]) -> Option<i64> {
        let rest = self.rest();
        let begins = rest.first_chunk::<3>()?.map(|b| b.to_ascii_lowercase());
        let found = of.iter().position(|w| **w == begins)?;
        self.at += rest.iter().take_while(|b| b.is_ascii_alphabetic()).count();
        Some(found as i64 + 1)
    }
}

/// The time at the beginning of `text`, and how many bytes it took.
pub fn stamp(text: &[u8]) -> Option<(Stamp, usize)> {
    if let Some(found) = usual(text) {
        return Some(found);
    }
    let mut c = Cursor { text, at: 0 };
    let found = match c.peek() {
        b'0'..=b'9' => numeric(&mut c),
        b'A'..=b'Z' | b'a'..=b'z' => named(&mut c),
        _ => None,
    }?;
    Some((found, c.at))
}

/// The form that most logs have: a whole date, and milliseconds.
fn usual(text: &[u8]) -> Option<(Stamp, usize)> {
    let (at, n) = time::parse(text)?;
    // More digits, or a clock of 12 hours.
    let next = text.get(n + usize::from(text.get(n) == Some(&b' '))).copied().unwrap_or(0);
    if text.get(n).is_some_and(u8::is_ascii_digit) || b"aApP".contains(&next) {
        return None;
    }
    let mut c = Cursor { text, at: n };
    let zone_min = zone(&mut c);
    Some((Stamp { at, zone_min, has_year: true, has_date: true, step_ms: 1 }, c.at))
}

fn numeric(c: &mut Cursor<'_>) -> Option<Stamp> {
    match c.digits() {
        4 => {
            let year = c.taken(4);
            if c.eat_text("年") {
                let month = c.number(1, 2).filter(|_| c.eat_text("月"))?;
                let day = c.number(1, 2).filter(|_| c.eat_text("日"))?;
                c.eat(b" ");
                return clock(c, Some(year), month, day);
            }
            let separator = [c.peek()];
            if !c.eat(b"-/.") {
                return None;
            }
            let month = c.number(1, 2)?;
            if !c.eat(&separator) {
                return None;
            }
            let day = c.number(1, 2)?;
            between(c)?;
            clock(c, Some(year), month, day)
        }
        1 | 2 => {
            let first = c.number(1, 2)?;
            match c.peek() {
                b':' => {
                    // A clock alone.
                    c.at -= c.text[..c.at].iter().rev().take_while(|b| b.is_ascii_digit()).count();
                    let of_day = clock(c, None, 1, 1)?;
                    // Without a fraction it may be any number of things.
                    (of_day.step_ms == 1).then(|| Stamp { at: of_day.at.rem_euclid(DAY_MS), has_date: false, ..of_day })
                }
                b'/' | b'-' | b'.' | b' ' => {
                    let separator = [c.peek()];
                    c.at += 1;
                    if let Some(month) = c.word(&MONTHS) {
                        // `25/Jan/2023:19:05:05`, `25 Jan 2023 19:05:05`
                        let year = if c.eat(&separator) && c.digits() == 4 { c.number(4, 4) } else { None };
                        if year.is_some() {
                            between(c)?;
                        }
                        return clock(c, year, month, first);
                    }
                    if separator == *b" " {
                        return None;
                    }
                    let second = c.number(1, 2)?;
                    // Day and month as in the one country or the other: what cannot be a month is a day.
                    let (month, day) = if first > 12 || separator == *b"." { (second, first) } else { (first, second) };
                    let year = if c.eat(&separator) { Some(c.number(2, 4)?) } else { None };
                    let year = year.map(|y| if y < 100 { y + 2000 } else { y });
                    between(c)?;
                    clock(c, year, month, day)
                }
                _ => None,
            }
        }
        8 => {
            // `20230125T190505,818`
            let (year, month, day) = (c.taken(4), c.taken(2), c.taken(2));
            if !(c.eat(b"T") || c.eat(b" ")) || c.digits() != 6 {
                return None;
            }
            let (hour, minute, second) = (c.taken(2), c.taken(2), c.taken(2));
            finish(c, Some(year), month, day, (hour, minute, second))
        }
        n @ (10 | 13 | 16 | 19) => {
            let number = c.taken(n);
            let per_second = 10i64.pow(n as u32 - 10);
            if !EPOCH_S.contains(&(number / per_second)) {
                return None;
            }
            let mut ms = if n == 10 { number * 1_000 } else { number / (per_second / 1_000) };
            let fraction = n == 10 && c.peek() == b'.';
            if fraction {
                c.at += 1;
                ms += fraction_ms(c)?;
            }
            let step_ms = if n == 10 && !fraction { 1_000 } else { 1 };
            Some(Stamp { at: ms, zone_min: Some(0), has_year: true, has_date: true, step_ms })
        }
        _ => None,
    }
}

/// `Jan 25 19:05:05`, `Jan 25, 2023 @ 19:05:05.818`, `Wed Jan 25 19:05:05 2023`, `Wed 2023-01-25 19:05:05`
fn named(c: &mut Cursor<'_>) -> Option<Stamp> {
    if c.word(&WEEKDAYS).is_some() {
        c.eat(b",");
        c.eat(b" ").then_some(())?;
        if c.peek().is_ascii_digit() {
            return numeric(c);
        }
    }
    let month = c.word(&MONTHS)?;
    while c.eat(b" ") {}
    let day = c.number(1, 2)?;
    let mut year = None;
    if c.eat(b",") {
        c.eat(b" ");
        year = Some(c.number(4, 4)?);
        c.eat(b",");
    }
    c.eat(b" ").then_some(())?;
    if c.digits() == 4 {
        year = Some(c.taken(4));
        c.eat(b" ");
    }
    c.eat_text("@ ");
    clock(c, year, month, day)
}

fn between(c: &mut Cursor<'_>) -> Option<()> {
    if c.eat(b"T_:") {
        return Some(());
    }
    c.eat(b",");
    let mut any = false;
    while c.eat(b" \t") {
        any = true;
    }
    c.eat_text("@ ");
    any.then_some(())
}

fn clock(c: &mut Cursor<'_>, year: Option<i64>, month: i64, day: i64) -> Option<Stamp> {
    // Chinese writes the half of the day first.
    let half = if c.eat_text("下午") {
        Some(12)
    } else if c.eat_text("上午") {
        Some(0)
    } else {
        None
    };
    if half.is_some() {
        c.eat(b" ");
    }
    let hour = c.number(1, 2)?;
    c.eat(b":").then_some(())?;
    let minute = c.number(2, 2)?;
    c.eat(b":").then_some(())?;
    let second = c.number(2, 2)?;
    let hour = half.map_or(hour, |h| hour % 12 + h);
    finish(c, year, month, day, (hour, minute, second))
}

fn fraction_ms(c: &mut Cursor<'_>) -> Option<i64> {
    let n = c.digits();
    if n == 0 || n > 9 {
        return None;
    }
    let value = c.taken(n);
    Some(if n <= 3 { value * 10i64.pow(3 - n as u32) } else { value / 10i64.pow(n as u32 - 3) })
}

fn finish(
    c: &mut Cursor<'_>,
    mut year: Option<i64>,
    month: i64,
    day: i64,
    (mut hour, minute, second): (i64, i64, i64),
) -> Option<Stamp> {
    let (mut ms, mut step_ms) = (0, 1_000);
    let more_digits = c.text.get(c.at + 1).is_some_and(u8::is_ascii_digit);
    if (c.peek() == b'.' || c.peek() == b',' || c.peek() == b':') && more_digits {
        c.at += 1;
        (ms, step_ms) = (fraction_ms(c)?, 1);
    }
    // The half of the day, and the zone.
    let blank = usize::from(c.peek() == b' ');
    let half = c.text.get(c.at + blank..).and_then(<[u8]>::first_chunk::<2>).map(|h| h.map(|b| b.to_ascii_lowercase()));
    let ends = |n: usize| !c.text.get(c.at + n).is_some_and(u8::is_ascii_alphanumeric);
    if let Some(half) = half.filter(|h| (h == b"am" || h == b"pm") && ends(blank + 2)) {
        if !(1..=12).contains(&hour) {
            return None;
        }
        hour = hour % 12 + if &half == b"pm" { 12 } else { 0 };
        c.at += blank + 2;
    }
    let zone_min = zone(c);
    if year.is_none() && c.peek() == b' ' {
        // `Wed Jan 25 19:05:05 CST 2023`: zones of three letters mean anything, the year is what it is.
        let rest = &c.rest()[1..];
        let letters = rest.iter().take_while(|b| b.is_ascii_uppercase()).count();
        let skip = if (3..=4).contains(&letters) && rest.get(letters) == Some(&b' ') { letters + 1 } else { 0 };
        let digits = rest[skip..].iter().take_while(|b| b.is_ascii_digit()).count();
        let followed = rest.get(skip + 4).copied().unwrap_or(b' ');
        if digits == 4 && (followed == b' ' || followed == b']') {
            c.at += 1 + skip;
            year = Some(c.taken(4)).filter(|y| (1_990..2_100).contains(y));
        }
    }
    if hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let days = time::days(year.unwrap_or(LEAP_YEAR), month, day)?;
    let at = days * DAY_MS + ((hour * 60 + minute) * 60 + second) * 1_000 + ms;
    Some(Stamp { at, zone_min, has_year: year.is_some(), has_date: true, step_ms })
}

/// `Z`, `+0800`, `+08:00`, ` +0800`, ` UTC`
fn zone(c: &mut Cursor<'_>) -> Option<i32> {
    let blank = usize::from(c.peek() == b' ');
    let rest = c.text.get(c.at + blank..)?;
    let ends = |n: usize| !rest.get(n).is_some_and(u8::is_ascii_alphanumeric);
    for name in [&b"UTC"[..], b"GMT", b"Z"] {
        if rest.starts_with(name) && ends(name.len()) && (name != b"Z" || blank == 0) {
            c.at += blank + name.len();
            return Some(0);
        }
    }
    let sign = match rest.first()? {
        b'+' => 1,
        b'-' => -1,
        _ => return None,
    };
    let digit = |at: usize| rest.get(at).filter(|b| b.is_ascii_digit()).map(|b| i32::from(b - b'0'));
    let hours = digit(1)? * 10 + digit(2)?;
    let (minutes, n) = match (rest.get(3), digit(3), digit(4), digit(5)) {
        (Some(b':'), _, Some(a), Some(b)) => (a * 10 + b, 6),
        (_, Some(a), Some(b), _) => (a * 10 + b, 5),
        _ if blank == 0 => (0, 3),
        _ => return None,
    };
    if hours > 18 || minutes > 59 || !ends(n) {
        return None;
    }
    c.at += blank + n;
    Some(sign * (hours * 60 + minutes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_people_and_programs_write_them() {
        // Text, the time of it, and the zone.
        for (text, want, zone_min) in [
            ("2023-01-25T19:05:05,818 x", "2023-01-25T19:05:05.818", None),
            ("2023-01-25 19:05:05.818123 x", "2023-01-25T19:05:05.818", None),
            ("2023-01-25T19:05:05.818123456Z x", "2023-01-25T19:05:05.818", Some(0)),
            ("2023-01-25T19:05:05,818+0800 x", "2023-01-25T19:05:05.818", Some(480)),
            ("2023-01-25T19:05:05+08:00 x", "2023-01-25T19:05:05.000", Some(480)),
            ("2023-01-25 19:05:05,818 -0530 x", "2023-01-25T19:05:05.818", Some(-330)),
            ("2023-01-25 19:05:05,818 - x", "2023-01-25T19:05:05.818", None),
            ("2023-01-25 19:05:05 UTC x", "2023-01-25T19:05:05.000", Some(0)),
            ("2023/01/25 19:05:05.818 x", "2023-01-25T19:05:05.818", None),
            ("01/25/2023 07:05:05.818 PM x", "2023-01-25T19:05:05.818", None),
            ("25/01/2023 19:05:05,818 x", "2023-01-25T19:05:05.818", None),
            ("25/Jan/2023:19:05:05 +0800 x", "2023-01-25T19:05:05.000", Some(480)),
            ("25 Jan 2023 19:05:05,818 x", "2023-01-25T19:05:05.818", None),
            ("Jan 25, 2023 7:05:05 PM x", "2023-01-25T19:05:05.000", None),
            ("Jan 25, 2023 @ 19:05:05.818 x", "2023-01-25T19:05:05.818", None),
            ("Wed 2023-01-25 19:05:05 UTC x", "2023-01-25T19:05:05.000", Some(0)),
            ("Wed Jan 25 19:05:05 2023 x", "2023-01-25T19:05:05.000", None),
            ("Wed Jan 25 19:05:05 CST 2023] x", "2023-01-25T19:05:05.000", None),
            ("20230125T190505,818 x", "2023-01-25T19:05:05.818", None),
            ("2023年1月25日 下午7:05:05 x", "2023-01-25T19:05:05.000", None),
            ("2023/1/25 下午 7:05:05 x", "2023-01-25T19:05:05.000", None),
            ("1674673505.818 x", "2023-01-25T19:05:05.818", Some(0)),
            ("1674673505818 x", "2023-01-25T19:05:05.818", Some(0)),
            ("Jan 25 19:05:05.818123 x", "2000-01-25T19:05:05.818", None),
            ("Jan  5 19:05:05 x", "2000-01-05T19:05:05.000", None),
            ("01-25 19:05:05.818 x", "2000-01-25T19:05:05.818", None),
            ("19:05:05.818 x", "1970-01-01T19:05:05.818", None),
            ("07:05:05.818 PM x", "1970-01-01T19:05:05.818", None),
        ] {
            let (s, n) = stamp(text.as_bytes()).unwrap_or_else(|| panic!("{text}"));
            assert_eq!((time::long(s.at).as_str(), s.zone_min), (want, zone_min), "{text}");
            assert!(matches!(text.as_bytes()[n], b' ' | b']'), "{text}: {n}");
        }
        for wrong in
            ["", "x", "2023-13-25 19:05:05", "123456789012345", "12:00:00", "10.0.10.71:2181", "2181", "Mar", "3 of 4"]
        {
            assert_eq!(stamp(wrong.as_bytes()), None, "{wrong}");
        }
    }
}
