//! Keys of metad's store: the letter of a table, then numbers in the order in which they sort.

use crate::messages::{DatastoreId, ExtentId, FileId, NodeId};

/// Tables of the store: each has another letter.
pub mod table {
    pub const COUNTER: u8 = b'c';
    pub const INODE: u8 = b'i';
    pub const DIRENT: u8 = b'd';
    pub const COOKIE: u8 = b'k';
    pub const MAP: u8 = b'm';
    pub const EXTENT: u8 = b'e';
    pub const DATASTORE: u8 = b's';
    pub const BINDING: u8 = b'b';
    pub const REPLICA: u8 = b'r';
    pub const CALL: u8 = b'x';
    pub const CALL_AGE: u8 = b'y';
    pub const APPLIED: u8 = b'a';
    pub const LOCKS: u8 = b'l';
    /// Forks that are not done, by both files.
    pub const FORK: u8 = b'f';
    pub const NODE: u8 = b'n';
    pub const ADDRESS_GONE: u8 = b'g';
    pub const LOSSES: u8 = b'w';
    /// Newest starts of replicas, by their ids.
    pub const STARTS: u8 = b't';
}

fn key<const N: usize>(table: u8, parts: [[u8; 8]; N]) -> Vec<u8> {
    [&[table], parts.as_flattened()].concat()
}
fn number(n: u64) -> [u8; 8] {
    n.to_be_bytes()
}

pub fn inode(file: FileId) -> Vec<u8> {
    key(table::INODE, [file.to_be_bytes()])
}
pub fn locks(file: FileId) -> Vec<u8> {
    key(table::LOCKS, [file.to_be_bytes()])
}
/// The names in a folder.
pub fn names(dir: FileId) -> Vec<u8> {
    key(table::DIRENT, [dir.to_be_bytes()])
}
pub fn name(dir: FileId, name: &[u8]) -> Vec<u8> {
    [&names(dir), name].concat()
}
/// The cookies of a folder.
pub fn cookies(dir: FileId) -> Vec<u8> {
    key(table::COOKIE, [dir.to_be_bytes()])
}
pub fn cookie(dir: FileId, cookie: u64) -> Vec<u8> {
    key(table::COOKIE, [dir.to_be_bytes(), number(cookie)])
}
/// A fork of one file to another that is not done.
pub fn fork(file: FileId, to: FileId) -> Vec<u8> {
    key(table::FORK, [file.to_be_bytes(), to.to_be_bytes()])
}
/// The extents of a file.
pub fn places(file: FileId) -> Vec<u8> {
    key(table::MAP, [file.to_be_bytes()])
}
/// An extent by its number within its file.
pub fn place(file: FileId, index: u64) -> Vec<u8> {
    key(table::MAP, [file.to_be_bytes(), number(index)])
}
pub fn extent(eid: ExtentId) -> Vec<u8> {
    key(table::EXTENT, [eid.to_be_bytes()])
}
pub fn datastore(id: DatastoreId) -> Vec<u8> {
    key(table::DATASTORE, [number(id.0.into())])
}
pub fn replica(node: NodeId) -> Vec<u8> {
    key(table::REPLICA, [number(node.0.into())])
}
pub fn node(node: NodeId) -> Vec<u8> {
    key(table::NODE, [number(node.0.into())])
}
/// A kept reply, by its place in the order in which they came.
pub fn call_age(place: u64) -> Vec<u8> {
    key(table::CALL_AGE, [number(place)])
}
/// A loss that an administrator accepted, by its place in the order.
pub fn loss(place: u64) -> Vec<u8> {
    key(table::LOSSES, [number(place)])
}
