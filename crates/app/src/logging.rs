//! Log lines: for people on standard error, for the journal with a priority and without the time that it adds itself.

use anyhow::Context;
use std::fmt;
use std::path::Path;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;
use trivet_node::log_lines::{LogLines, RotatedFile};

/// Logs a command that ends soon: warnings, on standard error.
pub fn of_command() {
    let ansi = std::io::IsTerminal::is_terminal(&std::io::stderr());
    tracing_subscriber::fmt().with_env_filter(filter("warn")).with_writer(std::io::stderr).with_ansi(ansi).init();
}

/// Logs a server: no line waits for the disk or the journal that takes it. `file`: where to instead of standard error.
///
/// # Errors
/// The file cannot be opened, or no thread can be started.
pub fn of_server(file: Option<&Path>) -> anyhow::Result<()> {
    let for_journal = file.is_none() && to_journal();
    let ansi = file.is_none() && std::io::IsTerminal::is_terminal(&std::io::stderr());
    let sink: Box<dyn std::io::Write + Send> = match file {
        Some(path) => {
            let opened = RotatedFile::with_standard_streams(path);
            Box::new(opened.with_context(|| format!("cannot open the log file {}", path.display()))?)
        }
        None => Box::new(std::io::stderr()),
    };
    let lines = LogLines::of_process(sink).context("cannot start the thread that writes the log")?;
    let log = tracing_subscriber::fmt().with_env_filter(filter("info")).with_writer(move || lines.clone());
    if for_journal {
        log.with_ansi(false).event_format(ForJournal).init();
    } else {
        log.with_ansi(ansi).init();
    }
    Ok(())
}

/// `default`: the lines that are logged where `TRIVET_LOG` says nothing.
fn filter(default: &str) -> tracing_subscriber::EnvFilter {
    tracing_subscriber::EnvFilter::try_from_env("TRIVET_LOG").unwrap_or_else(|_| default.into())
}

/// systemd names device and inode of the stream that leads to the journal; a redirected one has others.
fn to_journal() -> bool {
    let Ok(named) = std::env::var("JOURNAL_STREAM") else { return false };
    rustix::fs::fstat(std::io::stderr()).is_ok_and(|s| named == format!("{}:{}", s.st_dev, s.st_ino))
}

/// `<N>` at the head of a line is its priority, as sd-daemon(3) says.
struct ForJournal;

impl<S, N> FormatEvent<S, N> for ForJournal
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut out: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        write!(out, "<{}>{}: ", priority(*event.metadata().level()), event.metadata().target())?;
        context.field_format().format_fields(out.by_ref(), event)?;
        writeln!(out)
    }
}

fn priority(level: Level) -> u8 {
    match level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 6,
        Level::DEBUG | Level::TRACE => 7,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn lines_for_the_journal_have_a_priority_and_no_time() {
        let lines = Lines::default();
        let writer = lines.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_writer(move || writer.clone())
            .with_ansi(false)
            .event_format(ForJournal)
            .finish();
        tracing::subscriber::with_default(subscriber, || {
            tracing::warn!(node = 2, "the disk is slow");
            tracing::info!("node is running");
        });
        let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[0].starts_with("<4>") && lines[0].contains("the disk is slow") && lines[0].contains("node=2"));
        assert!(lines[1].starts_with("<6>") && lines[1].ends_with("node is running"), "{text}");
    }
}
