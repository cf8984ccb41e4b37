//! How a cluster is, what is wrong with it, and why: one health model behind status, pages, metrics, alerts and
//! incidents.
//!
//! A [`view::ClusterView`] is what one node knows of all nodes at one moment. [`rules::Rules`] turns a view into
//! findings, the conditions of the [`catalogue`] that hold right now. [`alerts::Alerts`] keeps an alert for each
//! finding (hold times, acknowledgements, silences, maintenance, flapping), [`incidents::Incidents`] folds alerts
//! that cause one another into one incident and names the cause, and [`health::Health`] is the summary of it all.
//! Nothing here reads a clock, a file or a socket: the driver hands in the time and the view, and carries out effects.
//!
//! Begin with [`watcher::Watcher`], which joins all of it: [`watcher::Watcher::handle`] takes views and
//! the wishes of operators, and returns what to keep and what to send. A program that looks once takes
//! [`rules::Rules::evaluate`] and [`health::Health::of_findings`].
//!
//! | module | holds |
//! |---|---|
//! | [`view`], [`apache`] | the input, of our nodes and of an Apache ensemble that is only watched |
//! | [`catalogue`], [`rules`], [`settings`] | the rules, their evaluation, and what an operator changed of them |
//! | [`alerts`], [`silences`] | alerts, and what operators say about them |
//! | [`incidents`], [`cause`] | alerts that belong together, and their likely cause |
//! | [`health`], [`watcher`], [`replay`] | the summary, the whole as one core, and its run over a log |
//! | [`subject`], [`language`] | what an alert is about, and texts in both languages |
//! | [`export`], [`generated`] | reports, and what is made of the catalogue |

#![warn(missing_docs)]

pub mod alerts;
pub mod apache;
pub mod catalogue;
pub mod cause;
pub mod export;
pub mod generated;
pub mod health;
pub mod incidents;
pub mod language;
pub mod replay;
pub mod rules;
pub mod settings;
pub mod silences;
pub mod subject;
pub mod view;
pub mod watcher;

pub use catalogue::{RuleId, Severity};
pub use language::{Language, Said};
pub use subject::Subject;

/// `2023-01-29T05:10:11.123`, in UTC.
pub fn time_text(at_ms: i64) -> String {
    trivet_forensics::time::long(at_ms)
}

/// Bytes with the unit that fits: `41.5 GiB`.
pub fn bytes_text(n: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    match n.checked_ilog2().unwrap_or(0) as usize / 10 {
        0 => format!("{n} B"),
        step => format!("{:.1} {}", n as f64 / (1u64 << (10 * step)) as f64, UNITS[step - 1]),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn bytes_have_the_unit_that_fits() {
        for (bytes, text) in [
            (0, "0 B"),
            (12, "12 B"),
            (1_023, "1023 B"),
            (1_024, "1.0 KiB"),
            (1_536, "1.5 KiB"),
            (10 << 30, "10.0 GiB"),
            (5 << 40, "5.0 TiB"),
            (u64::MAX, "16.0 EiB"),
        ] {
            assert_eq!(super::bytes_text(bytes), text);
        }
    }
}
