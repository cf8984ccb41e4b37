//! Output to clients that is not sent yet.
//!
//! A single task writes for all clients, after the other tasks of the role's thread, so that everything addressed to a client
//! meanwhile leaves with one call, and an event for a thousand clients does not cause a thousand wake-ups. A client that does
//! not read has a task of its own until it does.

use crate::coordination::stream::WriteHalf;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::rc::Rc;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::task::AbortHandle;

/// Bytes that may wait for a client that does not read; beyond them it is disconnected.
const BYTES_MAX: usize = 64 << 20;
/// Time for the last bytes to leave when a connection ends.
const FAREWELL_LIMIT: Duration = Duration::from_secs(1);
/// Clients that are written to before the role's thread looks at its other tasks.
const AT_ONCE_MAX: usize = 64;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    /// Nothing waits.
    Idle,
    /// The writer has it on its list.
    Listed,
    /// The client does not take it. A task waits until it does.
    Blocked,
}

/// To one client.
pub(super) struct Outgoing {
    /// Nothing when the connection is over.
    socket: RefCell<Option<WriteHalf>>,
    waiting: RefCell<Vec<u8>>,
    /// Bytes that the socket has not taken: those that wait, and those that a task writes.
    unsent: Cell<usize>,
    state: Cell<State>,
    finished: Cell<bool>,
    blocked: RefCell<Option<AbortHandle>>,
    ended: Notify,
    /// The task that reads from the client waits until less is open.
    holds: Cell<bool>,
    less: Notify,
}

impl Outgoing {
    pub(super) fn new(socket: WriteHalf) -> Rc<Outgoing> {
        Rc::new(Outgoing {
            socket: RefCell::new(Some(socket)),
            waiting: RefCell::default(),
            unsent: Cell::new(0),
            state: Cell::new(State::Idle),
            finished: Cell::new(false),
            blocked: RefCell::default(),
            ended: Notify::new(),
            holds: Cell::new(false),
            less: Notify::new(),
        })
    }

    /// Until the connection is to end: all is out that was to go, or it cannot be.
    pub(super) async fn ended(&self) {
        self.ended.notified().await;
    }

    pub(super) fn unsent(&self) -> usize {
        self.unsent.get()
    }

    /// Until an answer was put into it, or bytes have gone out.
    pub(super) async fn less(&self) {
        self.holds.set(true);
        self.less.notified().await;
        self.holds.set(false);
    }

    fn tell_who_holds(&self) {
        if self.holds.get() {
            self.less.notify_one();
        }
    }

    /// The client says no more: what it was told last goes out within a limit.
    pub(super) async fn farewell(self: &Rc<Self>) {
        self.finished.set(true);
        if self.state.get() != State::Blocked {
            self.write();
        }
        if self.state.get() == State::Blocked {
            let _ = tokio::time::timeout(FAREWELL_LIMIT, self.ended()).await;
        }
    }

    /// Nothing more is written. The socket is closed with its other half, and not before.
    pub(super) fn close(&self) {
        if let Some(task) = self.blocked.take() {
            task.abort();
        }
        if let Some(socket) = self.socket.take() {
            socket.forget();
        }
    }

    /// As much of it as the socket takes.
    fn take(&self, bytes: &[u8]) -> io::Result<usize> {
        let taken = match &*self.socket.borrow() {
            Some(socket) => socket.try_write(bytes)?,
            None => return Err(io::ErrorKind::NotConnected.into()),
        };
        self.unsent.set(self.unsent.get() - taken);
        self.tell_who_holds();
        Ok(taken)
    }

    fn write(self: &Rc<Self>) {
        self.state.set(State::Idle);
        let mut bytes = std::mem::take(&mut *self.waiting.borrow_mut());
        if !bytes.is_empty() {
            match self.take(&bytes) {
                Ok(all) if all == bytes.len() && self.holds_back() => return self.block(Vec::new()),
                Ok(all) if all == bytes.len() => {}
                Ok(part) => {
                    bytes.drain(..part);
                    return self.block(bytes);
                }
                Err(e) if is_for_now(&e) => return self.block(bytes),
                Err(_) => return self.ended.notify_one(),
            }
        }
        if self.finished.get() {
            self.ended.notify_one();
        }
    }

    fn block(self: &Rc<Self>, bytes: Vec<u8>) {
        self.state.set(State::Blocked);
        let out = self.clone();
        let task = tokio::task::spawn_local(async move {
            let written = out.write_when_it_goes(bytes).await;
            if written.is_err() || out.finished.get() {
                out.ended.notify_one();
            }
            // After an error nothing is written any more.
            if written.is_ok() {
                out.state.set(State::Idle);
            }
        });
        *self.blocked.borrow_mut() = Some(task.abort_handle());
    }

    async fn write_when_it_goes(&self, mut bytes: Vec<u8>) -> io::Result<()> {
        while !bytes.is_empty() || self.holds_back() {
            let mut at = 0;
            while at < bytes.len() {
                match self.take(&bytes[at..]) {
                    Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                    Ok(part) => at += part,
                    Err(e) if is_for_now(&e) => self.is_writable().await?,
                    Err(e) => return Err(e),
                }
            }
            while self.holds_back() {
                match self.take(&[]) {
                    Ok(_) => {}
                    Err(e) if is_for_now(&e) => self.is_writable().await?,
                    Err(e) => return Err(e),
                }
            }
            bytes = std::mem::take(&mut *self.waiting.borrow_mut());
        }
        Ok(())
    }

    /// The connection has taken bytes that its socket has not.
    fn holds_back(&self) -> bool {
        self.socket.borrow().as_ref().is_some_and(WriteHalf::holds_back)
    }

    async fn is_writable(&self) -> io::Result<()> {
        std::future::poll_fn(|cx| match &*self.socket.borrow() {
            Some(socket) => socket.poll_write_ready(cx),
            None => std::task::Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        })
        .await
    }
}

fn is_for_now(e: &io::Error) -> bool {
    matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

/// The clients that something waits for.
#[derive(Default)]
pub(super) struct Writer {
    listed: RefCell<VecDeque<Rc<Outgoing>>>,
    wake: Notify,
}

impl Writer {
    pub(super) fn push(&self, out: &Rc<Outgoing>, bytes: Vec<u8>) {
        if out.unsent.get() + bytes.len() > BYTES_MAX {
            // Bytes after the gap must not be sent.
            out.waiting.borrow_mut().clear();
            out.close();
            return out.ended.notify_one();
        }
        out.unsent.set(out.unsent.get() + bytes.len());
        out.tell_who_holds();
        let mut waiting = out.waiting.borrow_mut();
        if waiting.is_empty() {
            *waiting = bytes;
        } else {
            waiting.extend_from_slice(&bytes);
        }
        self.list(out);
    }

    /// The connection ends when all is out; soon, if the client does not take it.
    pub(super) fn finish(&self, out: &Rc<Outgoing>) {
        out.finished.set(true);
        if out.state.get() == State::Blocked {
            let out = out.clone();
            tokio::task::spawn_local(async move {
                tokio::time::sleep(FAREWELL_LIMIT).await;
                out.ended.notify_one();
            });
        } else {
            self.list(out);
        }
    }

    fn list(&self, out: &Rc<Outgoing>) {
        if out.state.get() == State::Idle {
            out.state.set(State::Listed);
            let mut listed = self.listed.borrow_mut();
            if listed.is_empty() {
                self.wake.notify_one();
            }
            listed.push_back(out.clone());
        }
    }

    /// Beside all else that the thread does.
    pub(super) async fn run(&self) {
        let mut count = 0;
        loop {
            let next = self.listed.borrow_mut().pop_front();
            match next {
                Some(out) => {
                    // Skip a connection that was written to by another way meanwhile.
                    if out.state.get() == State::Listed {
                        out.write();
                    }
                    count += 1;
                    if count % AT_ONCE_MAX == 0 {
                        tokio::task::yield_now().await;
                    }
                }
                None => self.wake.notified().await,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncReadExt;
    use tokio::net::tcp::OwnedReadHalf;
    use tokio::net::{TcpListener, TcpStream};
    use tokio::time::timeout;

    const SOON: Duration = Duration::from_secs(10);

    /// A client, and what is on its way to it.
    async fn connected() -> (TcpStream, OwnedReadHalf, Rc<Outgoing>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (client, accepted) = tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
        let (reader, socket) = accepted.unwrap().0.into_split();
        (client.unwrap(), reader, Outgoing::new(WriteHalf::Plain(socket)))
    }

    fn with_a_writer<F: std::future::Future>(test: impl FnOnce(Rc<Writer>) -> F) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let writer = Rc::new(Writer::default());
        tokio::task::LocalSet::new().block_on(&runtime, async {
            let runs = writer.clone();
            tokio::task::spawn_local(async move { runs.run().await });
            test(writer).await
        });
    }

    #[test]
    fn what_is_said_goes_out_in_order_and_the_connection_ends_behind_it() {
        with_a_writer(|writer| async move {
            let (mut client, reader, out) = connected().await;
            for n in 0..100u8 {
                writer.push(&out, vec![n; 3]);
                if n % 7 == 0 {
                    tokio::task::yield_now().await;
                }
            }
            writer.finish(&out);
            timeout(SOON, out.ended()).await.unwrap();
            out.close();
            drop(reader);
            let mut got = Vec::new();
            client.read_to_end(&mut got).await.unwrap();
            assert_eq!(got, (0..100u8).flat_map(|n| [n; 3]).collect::<Vec<_>>());
        });
    }

    #[test]
    fn a_client_that_reads_late_gets_all_of_it_while_others_are_served() {
        with_a_writer(|writer| async move {
            let (mut late, _reader, out) = connected().await;
            let piece: Vec<u8> = (0..1 << 20).map(|n: u32| n as u8 ^ (n >> 8) as u8).collect();
            for _ in 0..32 {
                writer.push(&out, piece.clone());
                tokio::task::yield_now().await;
            }
            assert_eq!(out.state.get(), State::Blocked);
            let (mut other, _other_reader, to_other) = connected().await;
            writer.push(&to_other, b"answer".to_vec());
            let mut answer = [0; 6];
            timeout(SOON, other.read_exact(&mut answer)).await.unwrap().unwrap();
            assert_eq!(&answer, b"answer");
            let mut got = vec![0; piece.len()];
            for _ in 0..32 {
                timeout(SOON, late.read_exact(&mut got)).await.unwrap().unwrap();
                assert!(got == piece);
            }
            // Answers after the long one arrive, too.
            writer.push(&out, b"answer".to_vec());
            timeout(SOON, late.read_exact(&mut answer)).await.unwrap().unwrap();
            assert_eq!((&answer, out.state.get(), out.unsent()), (b"answer", State::Idle, 0));
        });
    }

    #[test]
    fn who_waits_for_less_hears_of_each_answer_and_of_what_went_out() {
        with_a_writer(|writer| async move {
            let (mut client, _reader, out) = connected().await;
            let waits = tokio::task::spawn_local({
                let out = out.clone();
                async move { out.less().await }
            });
            tokio::task::yield_now().await;
            assert!(!waits.is_finished());
            writer.push(&out, b"answer".to_vec());
            timeout(SOON, waits).await.unwrap().unwrap();
            while out.state.get() != State::Blocked {
                writer.push(&out, vec![1; 1 << 20]);
                tokio::task::yield_now().await;
            }
            let all = out.unsent();
            let reads = tokio::task::spawn_local(async move {
                let mut got = vec![0; 1 << 20];
                while client.read(&mut got).await.is_ok_and(|n| n > 0) {}
            });
            timeout(SOON, out.less()).await.unwrap();
            assert!(out.unsent() < all);
            reads.abort();
        });
    }

    #[test]
    fn a_client_that_never_reads_is_cut_off() {
        with_a_writer(|writer| async move {
            let (_silent, _reader, out) = connected().await;
            let mut most = 0;
            // Besides what is not sent, there is what the kernel took.
            for _ in 0..3 * (BYTES_MAX >> 20) {
                writer.push(&out, vec![1; 1 << 20]);
                most = most.max(out.unsent());
                tokio::task::yield_now().await;
            }
            assert!(most > BYTES_MAX / 2 && most <= BYTES_MAX);
            timeout(SOON, out.ended()).await.unwrap();
            assert!(out.socket.borrow().is_none(), "nothing goes out behind what was dropped");
        });
    }

    #[test]
    fn a_session_that_ends_while_its_client_does_not_read_ends_soon() {
        with_a_writer(|writer| async move {
            let (_silent, reader, out) = connected().await;
            while out.state.get() != State::Blocked {
                writer.push(&out, vec![1; 1 << 20]);
                tokio::task::yield_now().await;
            }
            writer.finish(&out);
            timeout(SOON, out.ended()).await.unwrap();
            // The end of a client that does not read, either.
            timeout(SOON, out.farewell()).await.unwrap();
            out.close();
            drop(reader);
            tokio::task::yield_now().await;
            assert_eq!(Rc::strong_count(&out), 1, "no task waits for it");
        });
    }

    #[test]
    fn behind_a_number_of_clients_others_have_their_turn() {
        with_a_writer(|writer| async move {
            let mut told = Vec::new();
            for _ in 0..3 * AT_ONCE_MAX {
                told.push(connected().await);
            }
            for (_, _, out) in &told {
                writer.push(out, b"news".to_vec());
            }
            let mut turns = 0;
            let mut before = 0;
            while before < told.len() {
                tokio::task::yield_now().await;
                let written = told.iter().filter(|(_, _, out)| out.state.get() == State::Idle).count();
                assert!(written - before <= AT_ONCE_MAX, "{} clients were written to in one turn", written - before);
                before = written;
                turns += 1;
                assert!(turns < 100);
            }
            for (client, _, _) in &mut told {
                let mut news = [0; 4];
                timeout(SOON, client.read_exact(&mut news)).await.unwrap().unwrap();
                assert_eq!(&news, b"news");
            }
        });
    }

    #[test]
    fn what_was_said_last_reaches_a_client_that_says_no_more() {
        with_a_writer(|writer| async move {
            let (mut client, reader, out) = connected().await;
            writer.push(&out, b"the end".to_vec());
            timeout(SOON, out.farewell()).await.unwrap();
            out.close();
            drop(reader);
            let mut got = Vec::new();
            client.read_to_end(&mut got).await.unwrap();
            assert_eq!(got, b"the end");
        });
    }
}
