//! File handles: the same on every gateway and after every restart, and not to be made up.
//!
//! A handle names a file and carries a tag over that name, made with a key that all gateways derive from the cluster's
//! key. Handles of before 2026-11-29 have no tag; `metadata/format.rs` says for which files they count.

use crate::ids::{DatastoreId, FileId};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// Bytes of a tag, the first ones of an HMAC-SHA-256. Guessing a handle takes 2^63 calls for one file.
const TAG_BYTES: usize = 8;
/// The purpose from which the key of handles is derived.
const PURPOSE: &[u8] = b"trivet nfs file handles, version 2";

/// The file that a handle names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Handle {
    /// A hash of the cluster's id.
    pub cluster: u64,
    /// Number of the datastore.
    pub datastore: DatastoreId,
    /// Number of the file.
    pub fileid: FileId,
}

/// A handle as a client sent it, before its tag is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claimed {
    /// The content, which anybody could have made.
    pub handle: Handle,
    /// `None` in handles of version 1.
    tag: Option<[u8; TAG_BYTES]>,
}

impl Handle {
    fn name(&self, version: u8) -> [u8; 24] {
        let mut out = [0; 24];
        out[..4].copy_from_slice(&[b'T', b'V', version, 0]);
        out[4..12].copy_from_slice(&self.cluster.to_be_bytes());
        out[12..16].copy_from_slice(&self.datastore.to_be_bytes());
        out[16..].copy_from_slice(&self.fileid.to_be_bytes());
        out
    }

    /// Version 1, which has no tag: given out until every gateway of the cluster reads version 2.
    pub fn untagged(&self) -> [u8; 32] {
        let mut out = [0; 32];
        out[..24].copy_from_slice(&self.name(1));
        out
    }
}

impl Claimed {
    /// `None` for what is no handle of a version that is known.
    pub fn decode(bytes: &[u8]) -> Option<Claimed> {
        let bytes: &[u8; 32] = bytes.try_into().ok()?;
        let tag: [u8; TAG_BYTES] = bytes[24..].try_into().ok()?;
        let tag = match bytes[..4] {
            [b'T', b'V', 1, 0] if tag == [0; TAG_BYTES] => None,
            [b'T', b'V', 2, 0] => Some(tag),
            _ => return None,
        };
        let handle = Handle {
            cluster: u64::from_be_bytes(bytes[4..12].try_into().ok()?),
            datastore: DatastoreId::from_be_bytes(bytes[12..16].try_into().ok()?),
            fileid: FileId::from_be_bytes(bytes[16..24].try_into().ok()?),
        };
        Some(Claimed { handle, tag })
    }

    /// Whether there is a tag, right or wrong: handles of version 1 have none.
    pub fn is_tagged(&self) -> bool {
        self.tag.is_some()
    }
}

/// Makes and checks tags.
#[derive(Clone)]
pub struct HandleKey {
    mac: Hmac<Sha256>,
}

impl HandleKey {
    /// The key that handles are tagged with, derived from the key that the cluster's nodes share.
    pub fn of_cluster(key: &[u8]) -> HandleKey {
        let derived = mac(key).chain_update(PURPOSE).finalize().into_bytes();
        HandleKey { mac: mac(&derived) }
    }

    /// The handle as clients get it: 24 bytes of content and the tag.
    pub fn tagged(&self, handle: &Handle) -> [u8; 32] {
        let mut out = [0; 32];
        out[..24].copy_from_slice(&handle.name(2));
        let tag = self.mac.clone().chain_update(&out[..24]).finalize().into_bytes();
        out[24..].copy_from_slice(&tag[..TAG_BYTES]);
        out
    }

    /// Whether this handle was given out by a gateway that has the key. One without a tag was not, as far as this knows.
    pub fn made(&self, claimed: &Claimed) -> bool {
        let Some(tag) = claimed.tag else { return false };
        self.mac.clone().chain_update(claimed.handle.name(2)).verify_truncated_left(&tag).is_ok()
    }
}

fn mac(key: &[u8]) -> Hmac<Sha256> {
    Hmac::new_from_slice(key).expect("any length of key will do")
}

#[cfg(test)]
mod tests {
    use super::*;

    const HANDLE: Handle = Handle { cluster: 7, datastore: DatastoreId(1), fileid: FileId(66) };

    #[test]
    fn handles_are_constant_and_strangers_are_refused() {
        let bytes = HandleKey::of_cluster(&[1; 32]).tagged(&HANDLE);
        assert_eq!(bytes, HandleKey::of_cluster(&[1; 32]).tagged(&HANDLE));
        assert_eq!(Claimed::decode(&bytes).map(|c| c.handle), Some(HANDLE));
        let mut newer = bytes;
        newer[2] = 3;
        assert_eq!(Claimed::decode(&newer), None);
        assert_eq!(Claimed::decode(&bytes[..31]), None);
        // The handle in the form of the version before tags.
        let mut old = [0; 32];
        old[..4].copy_from_slice(b"TV\x01\0");
        (old[11], old[15], old[23]) = (7, 1, 66);
        assert_eq!(HANDLE.untagged(), old);
        let claimed = Claimed::decode(&old).expect("version 1");
        assert!(claimed.handle == HANDLE && !claimed.is_tagged());
    }

    #[test]
    fn a_handle_that_differs_in_any_bit_was_not_made_here() {
        let key = HandleKey::of_cluster(&[1; 32]);
        let bytes = key.tagged(&HANDLE);
        assert!(key.made(&Claimed::decode(&bytes).expect("a handle")));
        for bit in 0..256 {
            let mut changed = bytes;
            changed[bit / 8] ^= 1 << (bit % 8);
            assert!(!Claimed::decode(&changed).is_some_and(|c| key.made(&c)), "bit {bit}");
        }
        let other = HandleKey::of_cluster(&[2; 32]);
        assert!(!other.made(&Claimed::decode(&bytes).expect("a handle")));
        assert!(!key.made(&Claimed::decode(&HANDLE.untagged()).expect("a handle")));
    }
}
