//! `xsd:dateTime`, as vSphere writes moments.

/// Days since 1970 of a date, by the proleptic Gregorian calendar.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let (y, m) = if month <= 2 { (year - 1, month + 9) } else { (year, month - 3) };
    let era = y.div_euclid(400);
    let of_era = y - era * 400;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + (153 * m + 2) / 5 + day - 1 - 719_468
}

/// `xsd:dateTime`, with or without a fraction and an offset, in milliseconds since 1970.
pub fn parse_utc(text: &str) -> Option<i64> {
    let number = |range: std::ops::Range<usize>| text.get(range)?.parse::<i64>().ok();
    let (date, rest) = (days(number(0..4)?, number(5..7)?, number(8..10)?), text.get(19..)?);
    let seconds = number(11..13)? * 3_600 + number(14..16)? * 60 + number(17..19)?;
    let zone = rest.trim_start_matches(|c: char| c == '.' || c.is_ascii_digit());
    let fraction: String = rest[..rest.len() - zone.len()].trim_start_matches('.').chars().take(3).collect();
    let ms = format!("{fraction:0<3}").parse::<i64>().ok()?;
    let offset_minutes = match zone.as_bytes().first() {
        None | Some(b'Z') => 0,
        Some(sign @ (b'+' | b'-')) => {
            let part = |range: std::ops::Range<usize>| zone.get(range)?.parse::<i64>().ok();
            let minutes = part(1..3)? * 60 + part(4..6)?;
            if *sign == b'+' {
                minutes
            } else {
                -minutes
            }
        }
        Some(_) => return None,
    };
    Some(((date * 86_400 + seconds) - offset_minutes * 60) * 1_000 + ms)
}

/// A moment as `xsd:dateTime` in UTC.
pub fn utc(wall_ms: i64) -> String {
    let (day, ms) = (wall_ms.div_euclid(86_400_000), wall_ms.rem_euclid(86_400_000));
    let z = day + 719_468;
    let (era, of_era) = (z.div_euclid(146_097), z.rem_euclid(146_097));
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let day_of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let m = (5 * day_of_year + 2) / 153;
    let month = if m < 10 { m + 3 } else { m - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let s = ms / 1_000;
    let date = format!("{year:04}-{month:02}-{:02}", day_of_year - (153 * m + 2) / 5 + 1);
    format!("{date}T{:02}:{:02}:{:02}Z", s / 3_600, s / 60 % 60, s % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_read_with_their_offset() {
        assert_eq!(parse_utc("2023-01-29T05:10:15.526Z"), Some(1_674_969_015_526));
        assert_eq!(parse_utc("2023-01-29T13:10:15.526123+08:00"), Some(1_674_969_015_526));
        assert_eq!(parse_utc("1970-01-01T00:00:00Z"), Some(0));
        assert_eq!(utc(1_674_969_015_526), "2023-01-29T05:10:15Z");
        for ms in [0, 951_782_400_000, 4_107_542_399_000, 1_709_164_800_000] {
            assert_eq!(parse_utc(&utc(ms)), Some(ms));
        }
        for bad in ["", "now", "2023-01-29", "2023-01-29T05:10:15x", "äääääääääääääää"] {
            assert_eq!(parse_utc(bad), None, "{bad}");
        }
    }
}
