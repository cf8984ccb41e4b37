//! Which datastore addresses a gateway serves: those that metad bound to this process, by the newest binding it knows of.
//!
//! A gateway hears of bindings from metad's LEADER and from the journal, and that a binding is outdated from owners of files
//! and from metad. After a pause of its own it asks metad before it serves anything again: the address may be another
//! gateway's by now.

use crate::messages::{Binding, NodeId};
use std::collections::{BTreeMap, BTreeSet};

/// After a pause of this process beyond this many milliseconds metad is asked first.
const OWN_PAUSE_MS: u64 = 1_000;
/// If there is no LEADER to ask, the gateway continues after this many milliseconds.
const NO_ANSWER_MS: u64 = 2_000;
/// Bindings are looked at once in this many milliseconds.
pub const LOOK_MS: u64 = 50;

/// An event that may change which addresses this gateway serves.
#[derive(Debug, Clone, PartialEq)]
pub enum Input {
    /// metad's LEADER says which bindings there are.
    Told {
        /// Entries of metad's journal that the LEADER had applied. A deposed LEADER that does not know yet has fewer.
        applied: u64,
        /// The bindings as of there.
        bindings: Vec<Binding>,
    },
    /// This node's copy of the journal says it.
    Replayed(Vec<Binding>),
    /// An owner, or metad, refused what came in over this binding: there is a newer one.
    Superseded {
        /// The datastore address of the refused binding.
        address: String,
        /// Its version, which is below the newest one (rule R18).
        version: u64,
    },
    /// The time to compare bindings with what is served here has come, every [`LOOK_MS`].
    Look,
}

/// An order to the driver, which does the work on the network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// The address is this gateway's: it is made valid again, announced and served, whatever of that is due.
    Keep {
        /// The datastore address, `ADDRESS@HOST` for a local one.
        address: String,
        /// The version of the binding; each move of the address raises it.
        version: u64,
    },
    /// Nothing is served over this binding any more. `leaves`: the address is not here under another binding either.
    Withdraw {
        /// The datastore address.
        address: String,
        /// The version of the binding that ends.
        version: u64,
        /// No other binding of this address is served here, so that the address itself is removed from the node.
        leaves: bool,
    },
}

/// Mistakes that the simulator must find.
#[doc(hidden)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bug {
    /// A gateway does not stop serving an address that was bound elsewhere.
    KeepsAddress,
}

/// The addresses that one gateway process serves, decided from bindings as the LEADER and the journal tell them.
#[derive(Debug)]
pub struct Addresses {
    node: NodeId,
    boot: u64,
    bug: Option<Bug>,
    told: Vec<Binding>,
    told_applied: u64,
    replayed: Vec<Binding>,
    superseded: BTreeSet<(String, u64)>,
    /// By binding, not by address: an address that left and came back is a new one.
    here: BTreeSet<(String, u64)>,
    looked_ms: u64,
    /// Until this time at most, the gateway waits for metad's answer before it serves.
    asks_until_ms: Option<u64>,
}

impl Addresses {
    /// Begins with no address; `boot` is the random number of this process, and only bindings to it are served.
    pub fn new(node: NodeId, boot: u64, now_ms: u64) -> Self {
        Addresses {
            node,
            boot,
            bug: None,
            told: Vec::new(),
            told_applied: 0,
            replayed: Vec::new(),
            superseded: BTreeSet::new(),
            here: BTreeSet::new(),
            looked_ms: now_ms,
            asks_until_ms: None,
        }
    }

    #[doc(hidden)]
    pub fn plant(&mut self, bug: Option<Bug>) {
        self.bug = bug;
    }

    /// Takes in one event at the time `now_ms` (monotonic) and appends the orders that follow from it.
    pub fn handle(&mut self, now_ms: u64, input: Input, out: &mut Vec<Effect>) {
        match input {
            // An answer of a deposed LEADER, or one that was overtaken: an address that it names may be another gateway's by now.
            Input::Told { applied, .. } if applied < self.told_applied => {}
            Input::Told { applied, bindings } => {
                (self.told, self.told_applied) = (bindings, applied);
                self.asks_until_ms = None;
            }
            Input::Replayed(bindings) => self.replayed = bindings,
            Input::Superseded { address, version } => drop(self.superseded.insert((address, version))),
            Input::Look => self.look(now_ms, out),
        }
    }

    fn look(&mut self, now_ms: u64, out: &mut Vec<Effect>) {
        if now_ms.saturating_sub(self.looked_ms) > OWN_PAUSE_MS {
            self.asks_until_ms = Some(now_ms + NO_ANSWER_MS);
        }
        self.looked_ms = now_ms;
        if self.asks_until_ms.is_some_and(|until| now_ms < until) {
            return;
        }
        self.asks_until_ms = None;
        let mine = self.mine();
        let gone: Vec<_> = self.here.iter().filter(|b| !mine.contains(b)).cloned().collect();
        for (address, version) in gone {
            if self.bug == Some(Bug::KeepsAddress) {
                out.push(Effect::Keep { address, version });
                continue;
            }
            let leaves = !mine.iter().any(|(a, _)| *a == address);
            self.here.remove(&(address.clone(), version));
            out.push(Effect::Withdraw { address, version, leaves });
        }
        self.here.extend(mine.iter().cloned());
        out.extend(mine.into_iter().map(|(address, version)| Effect::Keep { address, version }));
    }

    /// The bindings to this gateway, by the newest that it heard of, without those that were called outdated.
    pub fn mine(&mut self) -> Vec<(String, u64)> {
        let mut newest: BTreeMap<&str, &Binding> = BTreeMap::new();
        for b in self.told.iter().chain(&self.replayed) {
            let known = newest.entry(&b.address).or_insert(b);
            if b.version > known.version {
                *known = b;
            }
        }
        self.superseded.retain(|(address, version)| newest.get(&address[..]).is_none_or(|b| b.version <= *version));
        let own = newest.into_values().filter(|b| b.gateway == self.node && b.boot == self.boot);
        own.map(|b| (b.address.clone(), b.version)).filter(|b| !self.superseded.contains(b)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn binding(gateway: u32, version: u64) -> Binding {
        Binding { address: "a".into(), gateway: NodeId(gateway), boot: u64::from(gateway) * 10, version }
    }
    fn keep(version: u64) -> Effect {
        Effect::Keep { address: "a".into(), version }
    }
    fn withdraw(version: u64, leaves: bool) -> Effect {
        Effect::Withdraw { address: "a".into(), version, leaves }
    }

    struct World(Addresses, u64);

    impl World {
        fn new() -> World {
            World(Addresses::new(NodeId(1), 10, 0), 0)
        }
        fn hear(&mut self, input: Input) {
            self.0.handle(self.1, input, &mut Vec::new());
        }
        /// As of the entry that made the newest of these bindings.
        fn told(&mut self, bindings: Vec<Binding>) {
            let applied = bindings.iter().map(|b| b.version).max().unwrap_or(0);
            self.hear(Input::Told { applied, bindings });
        }
        fn look_at(&mut self, now_ms: u64) -> Vec<Effect> {
            let mut out = Vec::new();
            self.1 = now_ms;
            self.0.handle(now_ms, Input::Look, &mut out);
            out
        }
    }

    #[test]
    fn the_newest_binding_counts_wherever_it_was_heard() {
        let mut w = World::new();
        assert_eq!(w.look_at(50), []);
        w.told(vec![binding(1, 1)]);
        assert_eq!(w.look_at(100), [keep(1)]);
        assert_eq!(w.look_at(150), [keep(1)]);
        // The journal has arrived here, though no LEADER is in reach.
        w.hear(Input::Replayed(vec![binding(2, 2)]));
        assert_eq!(w.look_at(200), [withdraw(1, true)]);
        // A LEADER that is behind changes nothing.
        w.told(vec![binding(1, 1)]);
        assert_eq!(w.look_at(250), []);
        w.told(vec![binding(1, 3)]);
        assert_eq!(w.look_at(300), [keep(3)]);
        // Bound again here: the address stays, its connections do not.
        w.told(vec![binding(1, 4)]);
        assert_eq!(w.look_at(350), [withdraw(3, false), keep(4)]);
        // Another start of this gateway is another one.
        w.told(vec![Binding { boot: 11, ..binding(1, 5) }]);
        assert_eq!(w.look_at(400), [withdraw(4, true)]);
    }

    #[test]
    fn a_deposed_leader_does_not_bring_back_an_address_that_has_left() {
        let mut w = World::new();
        w.told(vec![binding(1, 1)]);
        assert_eq!(w.look_at(50), [keep(1)]);
        w.told(vec![binding(2, 2)]);
        assert_eq!(w.look_at(100), [withdraw(1, true)]);
        w.told(vec![binding(1, 1)]);
        assert_eq!(w.look_at(150), []);
        // After a pause of its own its answer is none, either.
        assert_eq!(w.look_at(9_000), []);
        w.told(vec![binding(1, 1)]);
        assert_eq!(w.look_at(9_050), []);
        assert_eq!(w.look_at(9_000 + NO_ANSWER_MS), []);
        w.told(vec![binding(1, 3)]);
        assert_eq!(w.look_at(12_000), [keep(3)]);
    }

    #[test]
    fn what_is_called_outdated_is_not_served_before_a_newer_binding_is_known() {
        let mut w = World::new();
        w.told(vec![binding(1, 1)]);
        assert_eq!(w.look_at(50), [keep(1)]);
        w.hear(Input::Superseded { address: "a".into(), version: 1 });
        assert_eq!(w.look_at(100), [withdraw(1, true)]);
        w.told(vec![binding(1, 1)]);
        assert_eq!(w.look_at(150), []);
        w.told(vec![binding(1, 3)]);
        assert_eq!(w.look_at(200), [keep(3)]);
    }

    #[test]
    fn after_a_pause_of_its_own_a_gateway_asks_first() {
        let mut w = World::new();
        w.told(vec![binding(1, 1)]);
        assert_eq!(w.look_at(1_000), [keep(1)]);
        assert_eq!(w.look_at(9_000), []);
        assert_eq!(w.look_at(9_050), []);
        w.told(vec![binding(2, 2)]);
        assert_eq!(w.look_at(9_100), [withdraw(1, true)]);
        w.told(vec![binding(1, 3)]);
        assert_eq!(w.look_at(9_150), [keep(3)]);
        // metad does not answer.
        for at in [20_000, 21_000, 21_950] {
            assert_eq!(w.look_at(at), [], "{at}");
        }
        assert_eq!(w.look_at(22_000), [keep(3)]);
    }
}
