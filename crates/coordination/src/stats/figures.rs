//! Figures of a server's requests.

use crate::Millis;
use trivet_formats::client::op;

/// Smallest, greatest and mean of something.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Spread {
    pub(crate) count: u64,
    sum: u64,
    min: u64,
    max: u64,
    last: u64,
}

impl Spread {
    /// Adds a measurement.
    pub fn note(&mut self, value: u64) {
        self.min = if self.count == 0 { value } else { self.min.min(value) };
        self.max = self.max.max(value);
        self.count += 1;
        self.sum += value;
        self.last = value;
    }
    pub(crate) fn sum(&self) -> u64 {
        self.sum
    }
    pub(crate) fn min(&self) -> u64 {
        self.min
    }
    pub(crate) fn max(&self) -> u64 {
        self.max
    }
    pub(crate) fn mean(&self) -> f64 {
        if self.count == 0 {
            0.0
        } else {
            self.sum as f64 / self.count as f64
        }
    }
    /// As Java prints a double: at least one digit behind the point, at most four.
    pub(crate) fn mean_text(&self) -> String {
        let text = format!("{:.4}", self.mean());
        let short = text.trim_end_matches('0');
        if short.ends_with('.') {
            format!("{short}0")
        } else {
            short.to_string()
        }
    }
    pub(crate) fn min_avg_max(&self) -> String {
        format!("{}/{}/{}", self.min, self.mean_text(), self.max)
    }
    /// -1 for each while there was nothing.
    pub(crate) fn last_min_max_values(&self) -> [i64; 3] {
        let shown = |v: u64| if self.count == 0 { -1 } else { v as i64 };
        [shown(self.last), shown(self.min), shown(self.max)]
    }
    pub(crate) fn last_min_max(&self) -> String {
        let [last, min, max] = self.last_min_max_values();
        format!("{last}/{min}/{max}")
    }
}

/// The figures of a whole server.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Figures {
    /// Milliseconds from a request to its answer.
    pub(crate) latency: Spread,
    /// Bytes.
    pub(crate) proposals: Spread,
    pub(crate) responses: Spread,
}

impl Figures {
    pub(crate) fn reset(&mut self) {
        *self = Figures::default();
    }
}

/// The figures of one connection.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct ConnFigures {
    pub(crate) received: u64,
    pub(crate) sent: u64,
    pub(crate) established_ms: i64,
    pub(crate) last_op: Option<i32>,
    pub(crate) last_cxid: i32,
    pub(crate) last_zxid: i64,
    pub(crate) last_response_ms: Millis,
    pub(crate) latency: Spread,
}

impl ConnFigures {
    pub(crate) fn last_latency(&self) -> u64 {
        self.latency.last
    }
    pub(crate) fn reset(&mut self) {
        *self = ConnFigures { established_ms: self.established_ms, ..ConnFigures::default() };
    }
}

//= zookeeper 3.9 Request.op2String, and the names of FinalRequestProcessor
pub(crate) fn op_name(op: Option<i32>) -> &'static str {
    match op {
        Some(op::PING) => "PING",
        Some(op::CREATE_SESSION) => "SESS",
        Some(op::MULTI) => "MULT",
        Some(op::MULTI_READ) => "MLTR",
        Some(op::CREATE | op::CREATE2 | op::CREATE_TTL | op::CREATE_CONTAINER) => "CREA",
        Some(op::DELETE | op::DELETE_CONTAINER) => "DELE",
        Some(op::SET_DATA) => "SETD",
        Some(op::RECONFIG) => "RECO",
        Some(op::SET_ACL) => "SETA",
        Some(op::CLOSE_SESSION) => "CLOS",
        Some(op::SYNC) => "SYNC",
        Some(op::CHECK) => "CHEC",
        Some(op::EXISTS) => "EXIS",
        Some(op::GET_DATA) => "GETD",
        Some(op::SET_WATCHES) => "SETW",
        Some(op::SET_WATCHES2) => "STW2",
        Some(op::ADD_WATCH) => "ADDW",
        Some(op::GET_ACL) => "GETA",
        Some(op::GET_CHILDREN | op::GET_CHILDREN2) => "GETC",
        Some(op::GET_ALL_CHILDREN_NUMBER) => "GETACN",
        Some(op::CHECK_WATCHES) => "CHKW",
        Some(op::REMOVE_WATCHES) => "REMW",
        Some(op::WHO_AM_I) => "HOMI",
        Some(op::GET_EPHEMERALS) => "GETE",
        _ => "NA",
    }
}

/// `Mon Nov 23 02:35:46 UTC 2026`, as Java prints a date. Years after 9999 are 9999.
pub(crate) fn date(wall_ms: i64) -> String {
    let end = if wall_ms < 0 { jiff::Timestamp::MIN } else { jiff::Timestamp::MAX };
    let at = jiff::Timestamp::from_millisecond(wall_ms).unwrap_or(end);
    at.strftime("%a %b %d %H:%M:%S UTC %Y").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_and_means_as_java_prints_them() {
        assert_eq!(date(0), "Thu Jan 01 00:00:00 UTC 1970");
        assert_eq!(date(1_795_401_346_000), "Mon Nov 23 02:35:46 UTC 2026");
        assert_eq!(date(1_709_164_800_000), "Thu Feb 29 00:00:00 UTC 2024");
        let mut s = Spread::default();
        assert_eq!((s.min_avg_max().as_str(), s.last_min_max().as_str()), ("0/0.0/0", "-1/-1/-1"));
        [3, 4, 4].into_iter().for_each(|v| s.note(v));
        assert_eq!((s.min_avg_max().as_str(), s.last_min_max().as_str()), ("3/3.6667/4", "4/3/4"));
    }
}
