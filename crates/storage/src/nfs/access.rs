//! The bits of ACCESS (RFC 1813, 3.3.4).

use std::ops::{BitAnd, BitOr};

/// A set of the rights that a client asks about, or is granted, with ACCESS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Access(u32);

impl Access {
    /// No right.
    pub const NONE: Access = Access(0);
    /// ACCESS3_READ: to read a file, or to list a folder.
    pub const READ: Access = Access(0x01);
    /// ACCESS3_LOOKUP: to look a name up in a folder.
    pub const LOOKUP: Access = Access(0x02);
    /// ACCESS3_MODIFY: to write over what a file has, or to change a folder's entries.
    pub const MODIFY: Access = Access(0x04);
    /// ACCESS3_EXTEND: to make a file longer, or to add entries.
    pub const EXTEND: Access = Access(0x08);
    /// ACCESS3_DELETE: to delete an entry of a folder.
    pub const DELETE: Access = Access(0x10);
    /// ACCESS3_EXECUTE: to execute a file.
    pub const EXECUTE: Access = Access(0x20);
    /// Every right.
    pub const ALL: Access = Access(0x3f);
    /// Rights that a read-only datastore leaves: all but MODIFY, EXTEND and DELETE.
    pub const READ_ONLY: Access = Access(0x23);

    /// The set with these bits; those that mean nothing are kept.
    pub const fn of(bits: u32) -> Access {
        Access(bits)
    }
    /// The inverse of `of`.
    pub const fn bits(self) -> u32 {
        self.0
    }
}
impl BitAnd for Access {
    type Output = Access;
    fn bitand(self, other: Access) -> Access {
        Access(self.0 & other.0)
    }
}
impl BitOr for Access {
    type Output = Access;
    fn bitor(self, other: Access) -> Access {
        Access(self.0 | other.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bits_are_those_of_rfc_1813() {
        let bits = [Access::READ, Access::LOOKUP, Access::MODIFY, Access::EXTEND, Access::DELETE, Access::EXECUTE];
        assert_eq!(bits.map(Access::bits), [1, 2, 4, 8, 16, 32]);
        assert_eq!(bits.into_iter().fold(Access::NONE, |all, bit| all | bit), Access::ALL);
        let changes = Access::MODIFY | Access::EXTEND | Access::DELETE;
        assert_eq!((Access::READ_ONLY | changes, Access::READ_ONLY & changes), (Access::ALL, Access::NONE));
        assert_eq!(Access::of(0x1_0001) & Access::ALL, Access::READ);
    }
}
