//! The numbers of messages on the wire: the functions that code derived by `trivet-wire` calls.
//!
//! The functions do what `prost::encoding::uint32` and `uint64` do, byte by byte, for every type that is a number on the wire.

use prost::bytes::{Buf, BufMut};
use prost::encoding::{check_wire_type, DecodeContext, WireType};
use prost::DecodeError;

/// A type that is a number in messages: `uint32` or `uint64` of protobuf, which look the same there.
pub trait Number: Copy + Default + PartialEq {
    /// The number as it is written.
    fn to_wire(self) -> u64;
    /// The value of a number that was read; bits beyond the type's width are dropped, as protobuf has it.
    fn from_wire(number: u64) -> Self;
}

impl Number for u32 {
    fn to_wire(self) -> u64 {
        u64::from(self)
    }
    fn from_wire(number: u64) -> u32 {
        number as u32
    }
}
impl Number for u64 {
    fn to_wire(self) -> u64 {
        self
    }
    fn from_wire(number: u64) -> u64 {
        number
    }
}

/// Whether a field holds its default value, which is left out of a message.
pub(crate) fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// Fields that are numbers, in the form in which prost has a module for each kind of scalar.
pub(crate) mod number {
    use super::*;
    use prost::encoding::{decode_varint, encode_key, encode_varint, encoded_len_varint, key_len, merge_loop};

    pub fn encode<T: Number>(tag: u32, value: &T, buf: &mut impl BufMut) {
        encode_key(tag, WireType::Varint, buf);
        encode_varint(value.to_wire(), buf);
    }

    pub fn encoded_len<T: Number>(tag: u32, value: &T) -> usize {
        key_len(tag) + encoded_len_varint(value.to_wire())
    }

    pub fn merge<T: Number>(
        wire_type: WireType,
        value: &mut T,
        buf: &mut impl Buf,
        _ctx: DecodeContext,
    ) -> Result<(), DecodeError> {
        check_wire_type(WireType::Varint, wire_type)?;
        *value = T::from_wire(decode_varint(buf)?);
        Ok(())
    }

    fn packed_len<T: Number>(values: &[T]) -> usize {
        values.iter().map(|v| encoded_len_varint(v.to_wire())).sum()
    }

    pub fn encode_packed<T: Number>(tag: u32, values: &[T], buf: &mut impl BufMut) {
        if values.is_empty() {
            return;
        }
        encode_key(tag, WireType::LengthDelimited, buf);
        encode_varint(packed_len(values) as u64, buf);
        values.iter().for_each(|v| encode_varint(v.to_wire(), buf));
    }

    pub fn encoded_len_packed<T: Number>(tag: u32, values: &[T]) -> usize {
        if values.is_empty() {
            return 0;
        }
        let len = packed_len(values);
        key_len(tag) + encoded_len_varint(len as u64) + len
    }

    /// Reads values in one block or one by one: a reader of protobuf takes both.
    pub fn merge_repeated<T: Number>(
        wire_type: WireType,
        values: &mut Vec<T>,
        buf: &mut impl Buf,
        ctx: DecodeContext,
    ) -> Result<(), DecodeError> {
        let one = |values: &mut Vec<T>, wire_type, buf: &mut _, ctx| {
            let mut value = T::default();
            merge(wire_type, &mut value, buf, ctx)?;
            values.push(value);
            Ok(())
        };
        if wire_type == WireType::LengthDelimited {
            return merge_loop(values, buf, ctx, |values, buf, ctx| one(values, WireType::Varint, buf, ctx));
        }
        one(values, wire_type, buf, ctx)
    }
}

#[cfg(test)]
mod tests {
    use crate::ids::ExtentId;
    use prost::Message as _;

    /// As the derive of this workspace makes it.
    #[derive(Clone, PartialEq, trivet_wire::Message)]
    struct Typed {
        #[prost(uint64, tag = "1")]
        extent: ExtentId,
        #[prost(uint32, tag = "3")]
        small: u32,
        #[prost(uint64, repeated, tag = "2")]
        extents: Vec<ExtentId>,
        #[prost(uint64, optional, tag = "4")]
        perhaps: Option<ExtentId>,
        #[prost(message, required, tag = "20")]
        inner: Inner,
        #[prost(message, optional, tag = "5")]
        absent: Option<Inner>,
        #[prost(message, repeated, tag = "6")]
        more: Vec<Inner>,
        #[prost(oneof = "TypedOne", tags = "7, 9")]
        one: Option<TypedOne>,
        #[prost(fixed64, tag = "8")]
        fixed: u64,
        #[prost(bool, tag = "10")]
        flag: bool,
        #[prost(string, repeated, tag = "11")]
        names: Vec<String>,
        #[prost(bytes = "bytes", tag = "12")]
        data: bytes::Bytes,
    }
    #[derive(Clone, PartialEq, trivet_wire::Oneof)]
    enum TypedOne {
        #[prost(uint64, tag = "7")]
        Extent(ExtentId),
        #[prost(message, tag = "9")]
        Inner(Inner),
    }

    /// As prost's own derive makes it.
    #[derive(Clone, PartialEq, prost::Message)]
    struct Bare {
        #[prost(uint64, tag = "1")]
        extent: u64,
        #[prost(uint32, tag = "3")]
        small: u32,
        #[prost(uint64, repeated, tag = "2")]
        extents: Vec<u64>,
        #[prost(uint64, optional, tag = "4")]
        perhaps: Option<u64>,
        #[prost(message, required, tag = "20")]
        inner: Inner,
        #[prost(message, optional, tag = "5")]
        absent: Option<Inner>,
        #[prost(message, repeated, tag = "6")]
        more: Vec<Inner>,
        #[prost(oneof = "BareOne", tags = "7, 9")]
        one: Option<BareOne>,
        #[prost(fixed64, tag = "8")]
        fixed: u64,
        #[prost(bool, tag = "10")]
        flag: bool,
        #[prost(string, repeated, tag = "11")]
        names: Vec<String>,
        #[prost(bytes = "bytes", tag = "12")]
        data: bytes::Bytes,
    }
    #[derive(Clone, PartialEq, prost::Oneof)]
    enum BareOne {
        #[prost(uint64, tag = "7")]
        Extent(u64),
        #[prost(message, tag = "9")]
        Inner(Inner),
    }
    #[derive(Clone, PartialEq, prost::Message)]
    struct Inner {
        #[prost(bytes = "vec", repeated, tag = "1")]
        ids: Vec<Vec<u8>>,
        #[prost(uint64, tag = "2")]
        number: u64,
    }

    fn bare() -> Bare {
        let inner = Inner { ids: vec![vec![1; 16], Vec::new()], number: 300 };
        Bare {
            extent: u64::MAX,
            small: 128,
            extents: vec![0, 1, 1 << 40],
            perhaps: Some(0),
            inner: inner.clone(),
            absent: Some(inner.clone()),
            more: vec![inner.clone(), Inner::default()],
            one: Some(BareOne::Extent(0)),
            fixed: 7,
            flag: true,
            names: vec![String::new(), "ds".into()],
            data: bytes::Bytes::from_static(b"data"),
        }
    }

    #[test]
    fn bytes_and_text_are_those_of_prosts_own_derive() {
        let other = Bare { one: Some(BareOne::Inner(Inner::default())), ..Default::default() };
        let none = Bare { small: 1, ..Default::default() };
        for message in [bare(), other, none, Bare::default()] {
            let bytes = message.encode_to_vec();
            let typed = Typed::decode(&bytes[..]).expect("what prost wrote");
            assert_eq!(typed.encode_to_vec(), bytes);
            assert_eq!(typed.encoded_len(), bytes.len());
            assert_eq!(format!("{typed:?}").replace("Typed", "Bare"), format!("{message:?}"));
            assert_eq!(Bare::decode(&bytes[..]).expect("the same"), message);
        }
        let mut typed = Typed::decode(&bare().encode_to_vec()[..]).expect("what prost wrote");
        assert_eq!((typed.extent, typed.extents[2]), (ExtentId(u64::MAX), ExtentId(1 << 40)));
        typed.clear();
        assert_eq!(typed, Typed::default());
    }

    #[test]
    fn bytes_that_prosts_own_derive_refuses_are_refused_and_others_taken_alike() {
        let good = bare().encode_to_vec();
        let outcome = |bytes: &[u8]| {
            let typed =
                Typed::decode(bytes).map(|m| m.encode_to_vec()).map_err(|e| e.to_string().replace("Typed", "Bare"));
            let bare = Bare::decode(bytes).map(|m| m.encode_to_vec()).map_err(|e| e.to_string());
            assert_eq!(typed, bare, "{bytes:?}");
            typed.is_ok()
        };
        let (mut taken, mut refused) = (0, 0);
        for at in 0..good.len() {
            let mut changed = good.clone();
            for bit in 0..8 {
                changed[at] ^= 1 << bit;
                *if outcome(&changed) { &mut taken } else { &mut refused } += 1;
                changed[at] ^= 1 << bit;
            }
            *if outcome(&good[..at]) { &mut taken } else { &mut refused } += 1;
        }
        assert!(taken > 100 && refused > 100, "{taken} taken, {refused} refused");
        // Numbers one by one, a number wider than its field, a oneof twice, a field that nobody knows.
        for bytes in [
            &[0x10, 5, 0x10, 6][..],
            &[0x18, 255, 255, 255, 255, 255, 1],
            &[0x38, 1, 0x38, 2],
            &[0x4a, 2, 0x10, 1, 0x4a, 0],
            &[0xa0, 6, 1],
        ] {
            assert!(outcome(bytes), "{bytes:?}");
        }
    }
}
