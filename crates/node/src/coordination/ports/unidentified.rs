//! Places of callers of the quorum and election ports that have not said who they are: bounded for each address, and for all
//! addresses that no member has, so that strangers keep no member out.

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::IpAddr;
use std::rc::Rc;

/// Callers of one address that have not identified themselves; a further one is closed at once.
const OF_ADDRESS_MAX: usize = 16;
/// Callers that have not identified themselves, of all addresses that are no member's; a further one is closed at once.
const OF_STRANGERS_MAX: usize = 64;

#[derive(Debug, Default)]
struct Counts {
    of_address: HashMap<IpAddr, usize>,
    of_strangers: usize,
}

/// The callers of one port.
#[derive(Debug, Clone, Default)]
pub(super) struct Callers(Rc<RefCell<Counts>>);

/// The place of one caller, until it is dropped.
#[derive(Debug)]
pub(super) struct Unidentified {
    counts: Rc<RefCell<Counts>>,
    from: IpAddr,
    is_member: bool,
}

impl Callers {
    /// A place for a caller from there, unless too many have one. `is_member`: a member has this address.
    pub(super) fn admit(&self, from: IpAddr, is_member: bool) -> Option<Unidentified> {
        let from = from.to_canonical();
        let mut counts = self.0.borrow_mut();
        let own = counts.of_address.get(&from).copied().unwrap_or(0);
        if own >= OF_ADDRESS_MAX || !is_member && counts.of_strangers >= OF_STRANGERS_MAX {
            return None;
        }
        counts.of_address.insert(from, own + 1);
        counts.of_strangers += usize::from(!is_member);
        Some(Unidentified { counts: self.0.clone(), from, is_member })
    }
}

impl Drop for Unidentified {
    fn drop(&mut self) {
        let mut counts = self.counts.borrow_mut();
        counts.of_strangers -= usize::from(!self.is_member);
        match counts.of_address.get_mut(&self.from) {
            Some(own) if *own > 1 => *own -= 1,
            _ => drop(counts.of_address.remove(&self.from)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strangers_keep_no_member_out_and_places_come_back() {
        let (callers, ip) = (Callers::default(), |n: u8| IpAddr::from([10, 0, 0, n]));
        let of_one: Vec<_> = (0..100).filter_map(|_| callers.admit(ip(9), false)).collect();
        assert_eq!(of_one.len(), OF_ADDRESS_MAX);
        let of_all: Vec<_> =
            (10..200).flat_map(|n| [callers.admit(ip(n), false), callers.admit(ip(n), false)]).collect();
        assert_eq!(of_all.iter().flatten().count() + of_one.len(), OF_STRANGERS_MAX);
        let member: Vec<_> = (0..100).filter_map(|_| callers.admit(ip(1), true)).collect();
        assert_eq!(member.len(), OF_ADDRESS_MAX);
        drop((of_one, of_all, member));
        assert!(callers.0.borrow().of_address.is_empty() && callers.0.borrow().of_strangers == 0);
        assert!(callers.admit(ip(9), false).is_some());
        // An address of IPv4 is the same as a part of IPv6's.
        let _place = callers.admit("::ffff:10.0.0.1".parse().unwrap(), true);
        assert_eq!(callers.0.borrow().of_address.keys().collect::<Vec<_>>(), [&ip(1)]);
    }
}
