//! `--restart`: when a node that died is started again.

use std::time::Duration;

/// The longest pause before a dead node is started again, one day; a longer one is refused as a mistake.
const RESTART_MAX: Duration = Duration::from_secs(86_400);

/// The pause before a dead node is started again; `None`: it is not.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Restart(pub Option<Duration>);

/// # Errors
/// The text is neither `never` nor a number of seconds from 0 to one day.
pub fn parse(text: &str) -> Result<Restart, String> {
    if text == "never" {
        return Ok(Restart(None));
    }
    text.parse()
        .ok()
        .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
        .filter(|pause| *pause <= RESTART_MAX)
        .map(|pause| Restart(Some(pause)))
        .ok_or_else(|| format!("seconds from 0 to {}, or `never`", RESTART_MAX.as_secs()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_pause_that_can_be_waited_for_is_taken() {
        assert_eq!(parse("never"), Ok(Restart(None)));
        assert_eq!(parse("0.5"), Ok(Restart(Some(Duration::from_millis(500)))));
        assert_eq!(parse("0"), Ok(Restart(Some(Duration::ZERO))));
        for wrong in ["nan", "inf", "-1", "1e300", "86401", "", "3s", "Never"] {
            assert!(parse(wrong).is_err(), "{wrong} was taken");
        }
    }
}
