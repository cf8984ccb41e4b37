//! Which gateways live, as the LEADER hears them, and which of them has each datastore address and each new copy.
//!
//! A gateway's heartbeat renews everything that it holds; one that is silent for [`GATEWAY_SILENCE_MS`] loses it: its leases
//! may be granted to others, its addresses are bound elsewhere. Every binding counts the address's version up, and what came
//! in over an older one is refused (rule R18), so a holder that does not know yet can do no harm.

use super::{Kv, State};
use crate::messages::*;
use std::collections::{BTreeMap, BTreeSet};

/// A gateway that has not been heard for this many milliseconds is gone.
pub const GATEWAY_SILENCE_MS: u64 = 2_000;
/// A gateway that does not answer a new LEADER is heard within this many milliseconds, or counts as gone.
const PRESUMED_MS: u64 = 700;
/// An address moves when its holder reaches fewer gateways than another one for this many milliseconds.
const BEHIND_MS: u64 = 1_000;
/// Time between two checks of the addresses, in milliseconds.
pub const LOOK_MS: u64 = 100;

/// A gateway's newest heartbeat.
#[derive(Debug, Clone)]
pub struct Heard {
    /// The content of the heartbeat.
    pub info: GatewayInfo,
    /// When it came, in milliseconds of the LEADER's monotonic clock.
    pub at_ms: u64,
}

impl Heard {
    /// For how many milliseconds the gateway has been silent.
    pub fn silent_ms(&self, now_ms: u64) -> u64 {
        now_ms.saturating_sub(self.at_ms)
    }
}

/// The result of a new LEADER's look at a gateway's address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// The gateway answered.
    Answered,
    /// Nothing came back: its machine may be down, or only out of reach.
    Silent,
    /// The connection was refused: no process listens at the address.
    Refused,
}

/// Administrators' orders in the state that decide where things go.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Orders {
    /// Nodes in maintenance, drained or removed: they get new copies only where no other node can take them.
    pub aside: BTreeSet<NodeId>,
    /// Ids of storages that get no new copies.
    pub emptied: BTreeSet<Vec<u8>>,
    /// Addresses that no gateway serves.
    pub removed: BTreeSet<String>,
}

impl Orders {
    /// Reads the operators' orders from the state. `addresses` are the configured datastore addresses.
    pub fn of<K: Kv>(state: &State<K>, addresses: &[String]) -> Self {
        let aside = state.nodes().into_iter().filter(|n| n.mode != NodeMode::Serving).map(|n| n.node).collect();
        let removed = addresses.iter().filter(|a| state.address_is_removed(a)).cloned().collect();
        Orders { aside, emptied: state.emptied(&state.replicas()).into_iter().collect(), removed }
    }
}

/// An event that tells the LEADER about gateways, or asks where the addresses belong.
#[derive(Debug, Clone)]
pub enum Input<'a> {
    /// `aside`: an administrator has set its node aside. It serves its addresses and files until other gateways do, like one
    /// that is about to stop.
    Heartbeat {
        /// The content of the heartbeat.
        info: GatewayInfo,
        /// Its node is set aside.
        aside: bool,
    },
    /// A gateway that the state knows, as a new LEADER found it; `boot` is that of a lease that it had.
    Presumed {
        /// The storage of its node, with its address.
        replica: ReplicaRef,
        /// The boot id of its last lease.
        boot: u64,
        /// The result of the look at its address.
        found: Found,
    },
    /// This process did not run for this many milliseconds: nobody was silent.
    Paused(u64),
    /// The nodes that count as badly linked from now on.
    BadLinks(BTreeSet<NodeId>),
    /// The state's bindings, when the addresses are to be looked at. Only the LEADER looks.
    Look {
        /// The datastore addresses of this node's settings.
        addresses: &'a [String],
        /// The bindings that the state has.
        bindings: &'a [Binding],
        /// The orders that the state has.
        orders: &'a Orders,
    },
    /// The journal has answered for a binding, or the LEADER is no more.
    Bound {
        /// The datastore address.
        address: String,
    },
}

/// An order to the driver.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// For the journal.
    Bind {
        /// The address with the gateway that is to serve it.
        binding: Binding,
        /// The reason, for the log.
        why: String,
    },
}

/// The judgement of the LEADER, from heartbeats, which gateways live and where new copies, leases and addresses go.
#[derive(Debug, Default)]
pub struct Placement {
    gateways: BTreeMap<NodeId, Heard>,
    badly_linked: BTreeSet<NodeId>,
    /// Since when another gateway reaches more than the holder, by address.
    behind: BTreeMap<String, u64>,
    /// Addresses whose binding is on its way into the journal.
    binding: BTreeSet<String>,
}

impl Placement {
    /// Takes in one event at the time `now_ms` (monotonic) and appends the bindings that follow.
    pub fn handle(&mut self, now_ms: u64, input: Input, out: &mut Vec<Effect>) {
        match input {
            Input::Heartbeat { mut info, aside } => {
                info.leaving |= aside;
                self.gateways.insert(info.node, Heard { info, at_ms: now_ms });
            }
            Input::Presumed { replica, boot, found } => self.presumed(now_ms, replica, boot, found),
            Input::Paused(ms) => self.gateways.values_mut().for_each(|g| g.at_ms = (g.at_ms + ms).min(now_ms)),
            Input::BadLinks(nodes) => self.badly_linked = nodes,
            Input::Look { addresses, bindings, orders } => {
                let served = addresses.iter().filter(|a| !orders.removed.contains(*a));
                served.for_each(|address| out.extend(self.look(now_ms, address, bindings)));
            }
            Input::Bound { address } => drop(self.binding.remove(&address)),
        }
    }

    // ---- who lives ----

    /// Every gateway that was heard, whether it still lives or not.
    pub fn known(&self) -> impl Iterator<Item = &Heard> {
        self.gateways.values()
    }
    /// The newest heartbeat of this node's gateway.
    pub fn get(&self, node: NodeId) -> Option<&Heard> {
        self.gateways.get(&node)
    }
    /// The gateways that were heard a moment ago.
    pub fn alive(&self, now_ms: u64) -> impl Iterator<Item = &GatewayInfo> {
        alive(&self.gateways, now_ms)
    }
    /// Whether the process that has this lease lives and stays.
    pub fn has_owner(&self, now_ms: u64, lease: &Lease) -> bool {
        // A gateway that is about to stop gives its files to any gateway that asks for them.
        self.alive(now_ms).any(|g| g.node == lease.gateway && g.boot == lease.boot && !g.leaving)
    }
    /// Whether a gateway process may have a file's lease in its owner's place.
    pub fn may_take(&self, now_ms: u64, lease: &Lease, gateway: NodeId, boot: u64) -> bool {
        may_take(lease, gateway, boot, self.has_owner(now_ms, lease), |n| self.badly_linked.contains(&n))
    }

    /// A gateway that answered counts as alive from now on, unless nobody listens at its address any more; one that does not
    /// answer at all only for a moment.
    fn presumed(&mut self, now_ms: u64, replica: ReplicaRef, boot: u64, found: Found) {
        let at_ms = match found {
            Found::Refused => return drop(self.gateways.remove(&replica.node)),
            Found::Answered => now_ms,
            Found::Silent => now_ms.saturating_sub(GATEWAY_SILENCE_MS - PRESUMED_MS),
        };
        match self.gateways.get_mut(&replica.node) {
            Some(g) => g.at_ms = at_ms,
            // Its process is not known yet: leases that name this node are presumed to be alive.
            None => {
                let (node, address) = (replica.node, replica.address.clone());
                let info = GatewayInfo { node, boot, address, replica: Some(replica), ..Default::default() };
                self.gateways.insert(node, Heard { info, at_ms });
            }
        }
    }

    // ---- new copies ----

    /// Chunk servers for a new extent: those of nodes that are not set aside first, of these those with space, then the
    /// owner's own, then the others by lot. A node with twice the free space is drawn twice as often. The same `turn` draws
    /// the same nodes.
    pub fn replicas(&self, now_ms: u64, orders: &Orders, near: NodeId, copies: usize, turn: u64) -> Vec<ReplicaRef> {
        let takes = |g: &&GatewayInfo| g.replica.as_ref().is_some_and(|r| !orders.emptied.contains(&r.id));
        let mut alive = by_lot(self.alive(now_ms).filter(takes).collect(), turn);
        alive.sort_by_key(|g| {
            (orders.aside.contains(&g.node), g.is_full(), g.node != near, self.badly_linked.contains(&g.node))
        });
        alive.into_iter().filter_map(|g| g.replica.clone()).take(copies).collect()
    }

    // ---- addresses ----

    /// An address is served by a gateway that is alive, that can, that reaches as many others as any, and not over bad links
    /// only.
    fn look(&mut self, now_ms: u64, address: &str, bindings: &[Binding]) -> Option<Effect> {
        if self.binding.contains(address) {
            return None;
        }
        let Placement { gateways, badly_linked, behind, binding } = self;
        let bad = |g: &GatewayInfo| badly_linked.contains(&g.node);
        // Which gateways reach a badly linked one at the moment is chance.
        let others: Vec<&GatewayInfo> = gateways.values().map(|g| &g.info).filter(|g| !bad(g)).collect();
        let fit = |g: &GatewayInfo| fitness(g, address, bad(g), &others);
        let holder = bindings.iter().find(|b| b.address == address);
        let holds = |g: &&GatewayInfo| holder.is_some_and(|b| g.node == b.gateway && (g.boot == b.boot || g.boot == 0));
        let there = alive(gateways, now_ms).find(holds);
        // A gateway that has only been presumed is not given anything new.
        let able = alive(gateways, now_ms).filter(|g| g.boot != 0 && g.pid != 0);
        let next = able.max_by_key(|g| (fit(g), g.node))?;
        let mut why = holder.map_or("nobody held it".into(), |h| format!("node {} is gone", h.gateway));
        if let Some(g) = there {
            if fit(g) >= fit(next) {
                behind.remove(address);
                return None;
            }
            let cannot = refusal(g, address).filter(|_| refusal(next, address).is_none());
            let fewer = !bad(g) && cannot.is_none();
            if fewer && now_ms.saturating_sub(*behind.entry(address.into()).or_insert(now_ms)) < BEHIND_MS {
                return None;
            }
            let how = if fewer { "reaches fewer others" } else { "loses packets from or to every other node" };
            why = match cannot {
                Some(reason) => format!("node {} cannot serve it: {reason}", g.node),
                None => format!("node {} {how}", g.node),
            };
        }
        behind.remove(address);
        binding.insert(address.into());
        let to = Binding { address: address.into(), gateway: next.node, boot: next.boot, version: 0 };
        Some(Effect::Bind { binding: to, why })
    }
}

/// Gateways in an order drawn for this turn, weighted by the space that new data may take.
fn by_lot(mut left: Vec<&GatewayInfo>, turn: u64) -> Vec<&GatewayInfo> {
    let mut drawn = Vec::with_capacity(left.len());
    let mut random = turn;
    while !left.is_empty() {
        let weights: Vec<u64> = left.iter().map(|g| g.free_bytes.saturating_sub(g.reserve_bytes()).max(1)).collect();
        random = mixed(random);
        let mut lot = u128::from(random) % weights.iter().map(|w| u128::from(*w)).sum::<u128>();
        let at = weights.iter().position(|w| match lot.checked_sub(u128::from(*w)) {
            Some(rest) => {
                lot = rest;
                false
            }
            None => true,
        });
        drawn.push(left.remove(at.unwrap_or(0)));
    }
    drawn
}

/// The next number of SplitMix64: neighbouring turns draw unlike each other.
fn mixed(n: u64) -> u64 {
    let z = n.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn alive(gateways: &BTreeMap<NodeId, Heard>, now_ms: u64) -> impl Iterator<Item = &GatewayInfo> {
    let heard = move |g: &&Heard| now_ms.saturating_sub(g.at_ms) < GATEWAY_SILENCE_MS;
    gateways.values().filter(heard).map(|g| &g.info)
}

/// Why a gateway cannot serve an address, if it said so.
fn refusal<'a>(g: &'a GatewayInfo, address: &str) -> Option<&'a str> {
    if g.leaving {
        return Some("it is about to stop, or set aside");
    }
    g.unserved.iter().find(|u| u.address == address).map(|u| u.why.as_str())
}

/// How well an address is served by a gateway: at all, not over bad links only, reaching how many others.
fn fitness(g: &GatewayInfo, address: &str, badly_linked: bool, others: &[&GatewayInfo]) -> (bool, bool, usize) {
    let serves = refusal(g, address).is_none();
    if badly_linked {
        (serves, false, 0)
    } else {
        (serves, true, reach(g, others))
    }
}

/// How many of these gateways a gateway reaches, by what it says and by what they say.
fn reach(of: &GatewayInfo, known: &[&GatewayInfo]) -> usize {
    let reached = |g: &&&GatewayInfo| !of.unreached.contains(&g.node) && !g.unreached.contains(&of.node);
    known.iter().filter(reached).count()
}

/// Whether a gateway process may have a file's lease in its owner's place.
fn may_take(
    lease: &Lease,
    gateway: NodeId,
    boot: u64,
    owner_alive: bool,
    badly_linked: impl Fn(NodeId) -> bool,
) -> bool {
    // A client that writes through a gateway with bad links only waits for every packet that gets lost there.
    let better = badly_linked(lease.gateway) && !badly_linked(gateway);
    lease.boot == 0 || lease.boot == boot || better || !owner_alive
}

#[cfg(test)]
mod tests {
    use super::*;

    const ADDRESS: &str = "10.0.10.70";

    fn gateway(node: u32) -> GatewayInfo {
        let replica = ReplicaRef { node: NodeId(node), id: vec![node as u8; 16], address: String::new() };
        GatewayInfo {
            node: NodeId(node),
            boot: u64::from(node) * 10,
            pid: 1,
            replica: Some(replica),
            ..Default::default()
        }
    }

    struct World {
        placement: Placement,
        bindings: Vec<Binding>,
        orders: Orders,
    }

    impl World {
        fn new() -> World {
            World { placement: Placement::default(), bindings: Vec::new(), orders: Orders::default() }
        }
        fn input(&mut self, now_ms: u64, input: Input) {
            self.placement.handle(now_ms, input, &mut Vec::new());
        }
        fn heard(&mut self, now_ms: u64, infos: &[GatewayInfo]) {
            infos.iter().for_each(|g| self.input(now_ms, Input::Heartbeat { info: g.clone(), aside: false }));
        }
        /// Where the address goes, and why; the journal takes every binding.
        fn look(&mut self, now_ms: u64) -> Option<(u32, String)> {
            let (mut out, addresses) = (Vec::new(), [ADDRESS.to_string()]);
            let look = Input::Look { addresses: &addresses, bindings: &self.bindings, orders: &self.orders };
            self.placement.handle(now_ms, look, &mut out);
            let Effect::Bind { binding, why } = out.pop()?;
            assert!(self.placement.look(now_ms, ADDRESS, &self.bindings).is_none(), "one binding at a time");
            self.input(now_ms, Input::Bound { address: ADDRESS.into() });
            let node = binding.gateway.0;
            self.bindings = vec![binding];
            Some((node, why))
        }
    }

    #[test]
    fn an_address_stays_until_its_gateway_is_silent_or_stops_or_cannot_serve_it() {
        let mut w = World::new();
        assert_eq!(w.look(0), None, "nobody is there");
        w.heard(0, &[gateway(1), gateway(2)]);
        assert_eq!(w.look(0), Some((2, "nobody held it".into())));
        w.heard(1_900, &[gateway(1)]);
        assert_eq!(w.look(1_999), None);
        assert_eq!(w.look(2_000), Some((1, "node 2 is gone".into())));
        // The other gateway is back, as a new process.
        w.heard(2_100, &[gateway(1), GatewayInfo { boot: 21, ..gateway(2) }]);
        assert_eq!(w.look(2_100), None);
        w.heard(2_200, &[GatewayInfo { leaving: true, ..gateway(1) }]);
        assert_eq!(w.look(2_200), Some((2, "node 1 cannot serve it: it is about to stop, or set aside".into())));
        let told = Unserved { address: ADDRESS.into(), why: "no CAP_NET_ADMIN".into() };
        w.heard(2_300, &[gateway(1), GatewayInfo { boot: 21, unserved: vec![told], ..gateway(2) }]);
        assert_eq!(w.look(2_300), Some((1, "node 2 cannot serve it: no CAP_NET_ADMIN".into())));
        // A pause of this process is no silence of the gateways.
        w.input(9_000, Input::Paused(6_600));
        assert_eq!(w.look(9_000), None);
    }

    #[test]
    fn an_address_goes_to_the_gateway_in_the_middle_after_a_second() {
        let cut = |node, unreached: &[u32]| GatewayInfo {
            unreached: unreached.iter().map(|n| NodeId(*n)).collect(),
            ..gateway(node)
        };
        let mut w = World::new();
        w.heard(0, &[gateway(1), gateway(2), gateway(3)]);
        assert_eq!(w.look(0).map(|b| b.0), Some(3));
        // The link between 2 and 3 is cut, and only 3 has noticed.
        w.heard(1_000, &[gateway(1), gateway(2), cut(3, &[2])]);
        assert_eq!(w.look(1_000), None);
        assert_eq!(w.look(1_999), None);
        assert_eq!(w.look(2_000), Some((1, "node 3 reaches fewer others".into())));
        // 2 is dead: no gateway is better off than the others.
        w.heard(5_000, &[cut(1, &[2]), cut(3, &[2])]);
        assert_eq!(w.look(9_000), None);
    }

    #[test]
    fn bad_links_are_better_than_no_service() {
        let told = Unserved { address: ADDRESS.into(), why: "no interface".into() };
        let mut w = World::new();
        w.heard(0, &[gateway(1), gateway(2)]);
        assert_eq!(w.look(0).map(|b| b.0), Some(2));
        w.input(0, Input::BadLinks([NodeId(2)].into()));
        assert_eq!(w.look(0), Some((1, "node 2 loses packets from or to every other node".into())));
        w.heard(0, &[GatewayInfo { unserved: vec![told], ..gateway(1) }]);
        assert_eq!(w.look(0).map(|b| b.0), Some(2));
    }

    #[test]
    fn a_new_leader_presumes_gateways_and_their_leases_to_live_for_a_moment() {
        let mut w = World::new();
        let of = |node| gateway(node).replica.expect("it has one");
        let lease = |node: u32| Lease { gateway: NodeId(node), boot: u64::from(node) * 10, number: LeaseId(3) };
        w.input(0, Input::Presumed { replica: of(1), boot: 10, found: Found::Silent });
        w.input(0, Input::Presumed { replica: of(2), boot: 20, found: Found::Answered });
        w.input(0, Input::Presumed { replica: of(3), boot: 30, found: Found::Refused });
        w.placement.gateways.values_mut().for_each(|g| g.at_ms += 5_000);
        let take = |w: &World, now, node| w.placement.may_take(now, &lease(node), NodeId(9), 90);
        assert_eq!([1, 2, 3].map(|n| take(&w, 5_000, n)), [false, false, true]);
        assert_eq!(w.look(5_000), None, "a gateway that was only presumed is given nothing new");
        assert_eq!([1, 2].map(|n| take(&w, 7_000, n)), [true, true]);
    }

    #[test]
    fn a_node_that_is_set_aside_keeps_its_address_until_another_gateway_can_have_it() {
        let mut w = World::new();
        let aside = |w: &mut World, node| w.input(0, Input::Heartbeat { info: gateway(node), aside: true });
        w.heard(0, &[gateway(2)]);
        assert_eq!(w.look(0).map(|b| b.0), Some(2));
        aside(&mut w, 2);
        assert_eq!(w.look(0), None);
        let lease = Lease { gateway: NodeId(2), boot: 20, number: LeaseId(3) };
        assert!(w.placement.may_take(0, &lease, NodeId(1), 10), "its files go to any gateway that asks");
        w.heard(0, &[gateway(1)]);
        assert_eq!(w.look(0), Some((1, "node 2 cannot serve it: it is about to stop, or set aside".into())));
        // All are set aside: nothing moves between them.
        aside(&mut w, 1);
        assert_eq!(w.look(0), None);
    }

    #[test]
    fn an_address_that_is_removed_is_bound_nowhere() {
        let mut w = World::new();
        w.orders.removed.insert(ADDRESS.into());
        w.heard(0, &[gateway(1)]);
        assert_eq!(w.look(0), None);
        w.orders.removed.clear();
        assert_eq!(w.look(0).map(|b| b.0), Some(1));
    }

    #[test]
    fn new_copies_go_to_space_then_near_then_around() {
        let mut w = World::new();
        let full = GatewayInfo { total_bytes: 100 << 30, free_bytes: 1, ..gateway(1) };
        w.heard(0, &[full, gateway(2), gateway(3)]);
        let nodes = |w: &World, near, copies, turn| {
            w.placement.replicas(0, &w.orders, NodeId(near), copies, turn).iter().map(|r| r.node.0).collect::<Vec<_>>()
        };
        assert_eq!(nodes(&w, 3, 2, 0), [3, 2]);
        assert_eq!(nodes(&w, 2, 3, 1), [2, 3, 1]);
        // Near is full, so that the other two are drawn.
        assert!(nodes(&w, 1, 3, 1).ends_with(&[1]));
        // Rather to a full node than to one that is set aside; to an emptied storage not at all.
        w.orders.aside.insert(NodeId(3));
        assert_eq!(nodes(&w, 3, 3, 0), [2, 1, 3]);
        w.orders.emptied.insert(vec![2; 16]);
        assert_eq!(nodes(&w, 3, 3, 0), [1, 3]);
    }

    /// With the owner's own copy always first, taking turns among all nodes gave one of the others twice as many.
    #[test]
    fn further_copies_are_spread_by_free_space() {
        let spread = |free_gib: [u64; 4]| {
            let of = |n: u32| {
                let free_bytes = free_gib[n as usize - 1] << 30;
                GatewayInfo { total_bytes: 1_000 << 30, free_bytes, ..gateway(n) }
            };
            let mut w = World::new();
            w.heard(0, &[of(1), of(2), of(3), of(4)]);
            let mut copies = [0u32; 4];
            for turn in 0..3_000 {
                let on = w.placement.replicas(0, &w.orders, NodeId(1), 2, turn);
                on.iter().for_each(|r| copies[r.node.0 as usize - 1] += 1);
            }
            copies
        };
        let even = spread([500; 4]);
        assert_eq!(even[0], 3_000, "the owner's own");
        assert!(even[1..].iter().all(|n| (900..1_100).contains(n)), "{even:?}");
        let weighted = spread([500, 800, 400, 200]);
        assert!(weighted[1] > weighted[2] * 3 / 2 && weighted[2] > weighted[3] * 3 / 2, "{weighted:?}");
        assert!(weighted[3] > 100, "{weighted:?}");
    }

    #[test]
    fn a_lease_stays_with_an_owner_that_lives_and_has_a_good_link() {
        let lease = Lease { gateway: NodeId(1), boot: 11, ..Default::default() };
        let asks =
            |gateway, boot, alive, bad: &[u32]| may_take(&lease, NodeId(gateway), boot, alive, |n| bad.contains(&n.0));
        assert!(!asks(2, 22, true, &[]) && asks(1, 11, true, &[]) && asks(2, 22, false, &[]));
        // Another start of the same gateway is another owner, once the old one is silent.
        assert!(!asks(1, 12, true, &[]) && asks(1, 12, false, &[]));
        // Away from bad links, and not from one such to the next.
        assert!(asks(2, 22, true, &[1]) && !asks(2, 22, true, &[1, 2]) && !asks(2, 22, true, &[2]));
        assert!(may_take(&Lease::default(), NodeId(2), 22, true, |_| false), "nobody has it");
    }
}
