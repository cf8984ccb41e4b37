//! Numbers that must not be mixed up: the ids of the storage side.
//!
//! On disks, on the wire and for people each is the bare number.

use crate::wire::Number;
use std::fmt;
use std::num::ParseIntError;
use std::str::FromStr;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident($raw:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name(pub $raw);

        impl $name {
            /// No id: what a message without the field says.
            pub const NONE: $name = $name(0);

            /// Whether a message left it out.
            pub fn is_none(self) -> bool {
                self == $name::NONE
            }
            /// The number after this one.
            pub const fn next(self) -> $name {
                $name(self.0 + 1)
            }
            /// As keys have it, which sort by number.
            pub const fn to_be_bytes(self) -> [u8; size_of::<$raw>()] {
                self.0.to_be_bytes()
            }
            /// The inverse of `to_be_bytes`.
            pub const fn from_be_bytes(bytes: [u8; size_of::<$raw>()]) -> $name {
                $name(<$raw>::from_be_bytes(bytes))
            }
        }
        impl Number for $name {
            fn to_wire(self) -> u64 {
                self.0.to_wire()
            }
            fn from_wire(number: u64) -> $name {
                $name(<$raw>::from_wire(number))
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }
    };
}

id! {
    /// Number of a node, as `node.toml` and the cluster's configuration have it, from 1.
    NodeId(u32)
}
id! {
    /// Number of a datastore, from 1; handles name their datastore so.
    DatastoreId(u32)
}
id! {
    /// Number of an extent, unique in the cluster and never used again.
    ExtentId(u64)
}
id! {
    /// Number of a file, folder or other object, unique in the cluster and never used again.
    FileId(u64)
}
id! {
    /// Number of a lease of a file, one greater with each grant (rule R1).
    LeaseId(u64)
}
id! {
    /// Epoch of an extent's configuration, one greater with each change of its members (rule R5); neither metad's epoch of
    /// leadership nor coordination's.
    ConfigEpoch(u64)
}

impl FromStr for NodeId {
    type Err = ParseIntError;
    fn from_str(text: &str) -> Result<NodeId, ParseIntError> {
        text.parse().map(NodeId)
    }
}

impl LeaseId {
    /// Above every lease: orders that come from metad and not from an owner.
    pub const MAX: LeaseId = LeaseId(u64::MAX);
}

impl ConfigEpoch {
    /// The epoch of an extent that was just made.
    pub const FIRST: ConfigEpoch = ConfigEpoch(1);
    /// Above every epoch: the extent is gone.
    pub const MAX: ConfigEpoch = ConfigEpoch(u64::MAX);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::messages::{Attr, Datastore, GatewayInfo, MetaAnswer, MetaResponse};
    use prost::Message;

    #[test]
    fn the_number_of_a_datastore_is_the_bare_number_in_messages() {
        let store = Datastore { id: DatastoreId(300), ..Default::default() };
        assert_eq!(store.encode_to_vec(), [0x08, 0xac, 2]);
        let attr = Attr { datastore: DatastoreId(7), ..Default::default() };
        assert_eq!(attr.encode_to_vec(), [0x60, 7]);
        assert_eq!(Attr::decode(&[0x60, 7][..]), Ok(attr));
        assert_eq!(DatastoreId(7).to_string(), "7");
    }

    #[test]
    fn the_number_of_a_node_is_the_bare_number_in_messages() {
        let heard = GatewayInfo { node: NodeId(3), unreached: vec![NodeId(1), NodeId(300)], ..Default::default() };
        assert_eq!(heard.encode_to_vec(), [0x08, 3, 0x52, 3, 1, 0xac, 2]);
        assert_eq!(GatewayInfo::decode(&heard.encode_to_vec()[..]), Ok(heard));
        let elsewhere = MetaResponse { answer: Some(MetaAnswer::NotLeader(NodeId::NONE)) };
        assert_eq!(elsewhere.encode_to_vec(), [0x10, 0]);
        assert_eq!(("7".parse(), NodeId(7).to_string()), (Ok(NodeId(7)), "7".into()));
    }
}
