//! A peer of the election port: what waits for it, and which of its connections counts.

use crate::coordination::places::Places;
use bytes::Bytes;
use std::cell::{Cell, RefCell};
use std::net::IpAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};
use tokio::sync::Notify;
use trivet_coordination::membership;
use trivet_formats::ServerId;

/// A peer and the state of its connection.
pub(super) struct Peer {
    pub(super) id: ServerId,
    pub(super) places: Places,
    /// The position of the address that answered last.
    pub(super) answered: Cell<usize>,
    /// The newest vote that was not sent yet; a newer one replaces it.
    pub(super) pending: RefCell<Option<Bytes>>,
    pub(super) wake: Notify,
    /// Raised when a connection begins; an older one ends by it.
    pub(super) generation: Cell<u64>,
    pub(super) connected: Cell<bool>,
    /// For the current or the last connection: its source address, and the time of the last message.
    pub(super) from: Cell<Option<IpAddr>>,
    pub(super) heard: Cell<Instant>,
    /// A second server with its id was here: is this one still alive?
    pub(super) ask: Cell<bool>,
    pub(super) dial_now: Notify,
    /// Whether the peer of the current connection is a Trivet server; the peer may have been replaced since the last one.
    pub(super) ours: Cell<bool>,
    pub(super) datagram_at: Cell<Option<Instant>>,
    pub(super) redialled_at: Cell<Option<Instant>>,
    /// In no list of members; to join by a reconfig it has to be answered.
    pub(super) non_member: bool,
    /// The peer is not a member any more, or has another address.
    pub(super) gone: Cell<bool>,
}

impl Peer {
    pub(super) fn new(id: ServerId, places: Places, non_member: bool) -> Rc<Self> {
        Rc::new(Peer {
            id,
            places,
            answered: Cell::new(0),
            pending: RefCell::default(),
            wake: Notify::new(),
            generation: Cell::new(0),
            connected: Cell::new(false),
            from: Cell::new(None),
            heard: Cell::new(Instant::now()),
            ask: Cell::new(false),
            dial_now: Notify::new(),
            ours: Cell::new(false),
            datagram_at: Cell::new(None),
            redialled_at: Cell::new(None),
            non_member,
            gone: Cell::new(false),
        })
    }

    /// Ends its connection and the dialling.
    pub(super) fn dismiss(&self) {
        self.gone.set(true);
        self.generation.set(self.generation.get() + 1);
        self.connected.set(false);
        self.wake.notify_one();
        self.dial_now.notify_one();
    }

    /// Whether a connection from there is another server's, while this one's stands. A server of ours has to have
    /// been heard; Apache's say nothing for days, and the connection that stands is theirs if it leads to where
    /// they belong. In doubt it is asked for a sign, so that a dead one makes room.
    pub(super) fn is_elsewhere(&self, from: IpAddr) -> bool {
        let configured: Vec<IpAddr> = self.places.all().iter().map(|p| p.election.ip()).collect();
        if !self.connected.get() || !membership::newer_is_another(&configured, self.from.get(), Some(from)) {
            return false;
        }
        self.ask.set(true);
        self.wake.notify_one();
        let heard = self.heard.get().elapsed() < Duration::from_millis(membership::ALIVE_MS);
        if self.ours.get() {
            heard
        } else {
            self.from.get().is_some_and(|from| configured.contains(&from))
        }
    }

    /// The addresses that datagrams go to, by their positions: the one over whose network the connection stands, which is
    /// to be judged; without a connection all of them, so that one arrives where a network works.
    pub(super) fn datagrams_go_to(&self) -> std::ops::Range<usize> {
        let all = self.places.all();
        let connected = self.from.get().filter(|_| self.connected.get());
        match connected.and_then(|from| all.iter().position(|p| p.election.ip() == from)) {
            Some(one) => one..one + 1,
            None => 0..all.len(),
        }
    }

    pub(super) fn datagrams_arrive(&self) -> bool {
        self.datagram_at.get().is_some_and(|at| at.elapsed() < Duration::from_millis(150))
    }
}
