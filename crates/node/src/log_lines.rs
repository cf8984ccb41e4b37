//! Log lines on their way to standard error or to a file, on a thread of their own: a log disk, or a journal, that stalls holds up
//! nobody but that thread.

mod rotated;

pub use rotated::RotatedFile;

use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{mpsc, Arc, OnceLock};
use std::time::{Duration, Instant};

/// Lines that wait to be written; a further one is dropped and counted.
const LINES_WAITING_MAX: usize = 10_000;
/// Bytes of these lines; a line that would exceed it is dropped and counted.
const BYTES_WAITING_MAX: usize = 8 << 20;
/// A process that ends waits this long for its last lines; what a stalled disk has not taken by then is lost.
const LAST_LINES_LIMIT: Duration = Duration::from_secs(1);

enum Order {
    Write(Vec<u8>),
    Flush(mpsc::SyncSender<()>),
}

/// Takes lines without waiting. A clone writes into the same queue.
#[derive(Clone)]
pub struct LogLines {
    orders: mpsc::SyncSender<Order>,
    waiting_bytes: Arc<AtomicUsize>,
    lost: Arc<AtomicU64>,
}

/// The queue of this process, once it has one.
static OF_PROCESS: OnceLock<LogLines> = OnceLock::new();

impl LogLines {
    /// Begins to write lines to `sink`.
    ///
    /// # Errors
    /// The thread cannot be started.
    fn to(sink: impl Write + Send + 'static) -> io::Result<LogLines> {
        let (orders, queue) = mpsc::sync_channel(LINES_WAITING_MAX);
        let (waiting_bytes, lost) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicU64::new(0)));
        let lines = LogLines { orders, waiting_bytes, lost };
        let counts = (lines.waiting_bytes.clone(), lines.lost.clone());
        std::thread::Builder::new().name("log".into()).spawn(move || serve(&queue, sink, &counts.0, &counts.1))?;
        Ok(lines)
    }

    /// Begins to write this process's lines to `sink`; [`flush`] and [`lost`] are about them. To be called once.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub fn of_process(sink: impl Write + Send + 'static) -> io::Result<LogLines> {
        let lines = LogLines::to(sink)?;
        Ok(OF_PROCESS.get_or_init(|| lines).clone())
    }

    fn flush(&self, limit: Duration) {
        let until = Instant::now() + limit;
        let (done, wait) = mpsc::sync_channel(1);
        let mut order = Order::Flush(done);
        while let Err(mpsc::TrySendError::Full(back)) = self.orders.try_send(order) {
            if Instant::now() >= until {
                return;
            }
            order = back;
            std::thread::sleep(Duration::from_millis(5));
        }
        // Lines that a stalled sink does not take are lost.
        let _ = wait.recv_timeout(until.saturating_duration_since(Instant::now()));
    }
}

impl Write for LogLines {
    /// A whole line. It is taken, or dropped and counted; nothing waits.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let waiting = self.waiting_bytes.fetch_add(line.len(), Ordering::Relaxed);
        let fits = waiting + line.len() <= BYTES_WAITING_MAX;
        if !(fits && self.orders.try_send(Order::Write(line.to_vec())).is_ok()) {
            self.waiting_bytes.fetch_sub(line.len(), Ordering::Relaxed);
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn serve(queue: &mpsc::Receiver<Order>, mut sink: impl Write, waiting_bytes: &AtomicUsize, lost: &AtomicU64) {
    let mut told = 0;
    while let Ok(order) = queue.recv() {
        match order {
            Order::Write(line) => {
                if sink.write_all(&line).is_err() {
                    // A full disk, or a pipe that nobody reads: there is nowhere to say it but in the count.
                    lost.fetch_add(1, Ordering::Relaxed);
                }
                waiting_bytes.fetch_sub(line.len(), Ordering::Relaxed);
                let now = lost.load(Ordering::Relaxed);
                if now > told {
                    let said = writeln!(
                        sink,
                        "{} log lines were dropped: what takes the log was too slow or full",
                        now - told
                    );
                    told = if said.is_ok() { now } else { told };
                }
            }
            Order::Flush(done) => {
                let _ = sink.flush();
                // The asking thread may have given up.
                let _ = done.send(());
            }
        }
    }
}

/// Waits until the lines so far are written, a second at most: before the process ends.
pub fn flush() {
    if let Some(lines) = OF_PROCESS.get() {
        lines.flush(LAST_LINES_LIMIT);
    }
}

/// Lines of this process that were dropped since its start.
pub fn lost() -> u64 {
    OF_PROCESS.get().map_or(0, |lines| lines.lost.load(Ordering::Relaxed))
}

#[cfg(test)]
mod tests {
    use super::*;
    use parking_lot::Mutex;

    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().write(bytes)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_sink_that_stalls_holds_nobody_up_and_the_lines_that_were_dropped_are_told() {
        let sink = Sink::default();
        let stalled = sink.0.lock();
        let mut lines = LogLines::to(sink.clone()).unwrap();
        let begun = Instant::now();
        for n in 0..LINES_WAITING_MAX + 100 {
            lines.write_all(format!("line {n}\n").as_bytes()).unwrap();
        }
        lines.flush(Duration::from_millis(50));
        assert!(begun.elapsed() < Duration::from_secs(20), "a writer waited for the sink");
        let lost = lines.lost.load(Ordering::Relaxed);
        assert!((90..=100).contains(&lost), "{lost} lines were dropped");
        drop(stalled);
        lines.flush(Duration::from_secs(60));
        let text = String::from_utf8(sink.0.lock().clone()).unwrap();
        assert!(text.starts_with("line 0\n"), "{}", &text[..40]);
        assert!(text.contains(&format!("{lost} log lines were dropped")));
        assert_eq!(lines.waiting_bytes.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn long_lines_are_bounded_by_their_bytes() {
        let sink = Sink::default();
        let stalled = sink.0.lock();
        let mut lines = LogLines::to(sink.clone()).unwrap();
        let long = vec![b'x'; 1 << 20];
        (0..20).for_each(|_| lines.write_all(&long).unwrap());
        assert_eq!(lines.lost.load(Ordering::Relaxed), 12);
        drop(stalled);
    }
}
