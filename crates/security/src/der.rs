//! As much of DER as certificates and key stores need: elements one after the other, definite lengths only.

/// The bytes are no DER of the expected shape.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("its DER is not well formed")]
pub struct Malformed;

/// Tag bytes of the elements that certificates and key stores have (X.690, universal class).
pub mod tag {
    /// A truth value.
    pub const BOOLEAN: u8 = 0x01;
    /// A whole number, two's complement.
    pub const INTEGER: u8 = 0x02;
    /// Bits; the first content byte says how many of the last byte are unused.
    pub const BIT_STRING: u8 = 0x03;
    /// Bytes.
    pub const OCTET_STRING: u8 = 0x04;
    /// An object identifier; [`super::oid_text`] reads it.
    pub const OID: u8 = 0x06;
    /// Text in UTF-8 (UTF8String).
    pub const UTF8: u8 = 0x0c;
    /// Text in a part of ASCII (PrintableString).
    pub const PRINTABLE: u8 = 0x13;
    /// Text, read as ISO 8859-1 here (TeletexString).
    pub const T61: u8 = 0x14;
    /// Text in ASCII (IA5String).
    pub const IA5: u8 = 0x16;
    /// A time with two digits of the year.
    pub const UTC_TIME: u8 = 0x17;
    /// A time with four digits of the year.
    pub const GENERALIZED_TIME: u8 = 0x18;
    /// Text in UTF-32, big-endian (UniversalString).
    pub const UNIVERSAL: u8 = 0x1c;
    /// Text in UTF-16, big-endian (BMPString).
    pub const BMP: u8 = 0x1e;
    /// Elements in an order, constructed.
    pub const SEQUENCE: u8 = 0x30;
    /// Elements in any order, constructed.
    pub const SET: u8 = 0x31;
    /// `[n]`, constructed.
    pub const fn context(n: u8) -> u8 {
        0xa0 | n
    }
    /// `[n]`, primitive.
    pub const fn context_primitive(n: u8) -> u8 {
        0x80 | n
    }
}

/// An element: its tag, its content, and the two with the length between them.
#[derive(Debug, Clone, Copy)]
pub struct Element<'a> {
    /// The first byte; tags of more bytes are refused.
    pub tag: u8,
    /// The bytes behind the length.
    pub content: &'a [u8],
    /// All bytes of the element.
    pub whole: &'a [u8],
}

/// Elements that stand one after the other.
#[derive(Debug, Clone, Copy)]
pub struct Elements<'a>(&'a [u8]);

impl<'a> Elements<'a> {
    /// Begins at the first byte.
    pub fn new(bytes: &'a [u8]) -> Self {
        Elements(bytes)
    }
    /// Whether no element is left.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
    /// The tag of the next element, which stays unread.
    pub fn peek(&self) -> Option<u8> {
        self.0.first().copied()
    }

    /// The next element, whatever it is.
    ///
    /// # Errors
    /// If there is none, or its length is indefinite or goes beyond the bytes.
    pub fn any(&mut self) -> Result<Element<'a>, Malformed> {
        let all = self.0;
        let (&tag, rest) = all.split_first().ok_or(Malformed)?;
        if tag & 0x1f == 0x1f {
            return Err(Malformed);
        }
        let (&first, mut rest) = rest.split_first().ok_or(Malformed)?;
        let mut length = usize::from(first);
        if first & 0x80 != 0 {
            let count = usize::from(first & 0x7f);
            // None is an indefinite length, and no file here is as long as five bytes can say.
            if !(1..=4).contains(&count) || rest.len() < count {
                return Err(Malformed);
            }
            let (digits, after) = rest.split_at(count);
            length = digits.iter().fold(0, |n, b| n << 8 | usize::from(*b));
            rest = after;
        }
        if rest.len() < length {
            return Err(Malformed);
        }
        let (content, after) = rest.split_at(length);
        self.0 = after;
        Ok(Element { tag, content, whole: &all[..all.len() - after.len()] })
    }

    /// The content of the next element, which has this tag.
    ///
    /// # Errors
    /// As for `any`, and if it has another tag.
    pub fn take(&mut self, tag: u8) -> Result<&'a [u8], Malformed> {
        let element = self.any()?;
        if element.tag == tag {
            Ok(element.content)
        } else {
            Err(Malformed)
        }
    }
    /// The elements within the next one, which has this tag.
    ///
    /// # Errors
    /// As for `take`.
    pub fn within(&mut self, tag: u8) -> Result<Elements<'a>, Malformed> {
        self.take(tag).map(Elements)
    }
    /// The content of the next element if it has this tag.
    ///
    /// # Errors
    /// As for `any`.
    pub fn optional(&mut self, tag: u8) -> Result<Option<&'a [u8]>, Malformed> {
        if self.peek() == Some(tag) {
            self.take(tag).map(Some)
        } else {
            Ok(None)
        }
    }
    /// A number from 0 to 2^32 - 1.
    ///
    /// # Errors
    /// As for `take`, and if the number is another one.
    pub fn number(&mut self) -> Result<u32, Malformed> {
        let bytes = self.take(tag::INTEGER)?;
        let significant = if bytes.len() > 1 && bytes[0] == 0 { &bytes[1..] } else { bytes };
        let negative = bytes.first().is_none_or(|b| b & 0x80 != 0);
        if negative || significant.len() > 4 {
            return Err(Malformed);
        }
        Ok(significant.iter().fold(0, |n, b| n << 8 | u32::from(*b)))
    }
}

/// An object identifier in digits, `2.5.4.3`.
///
/// # Errors
/// If the bytes are none.
pub fn oid_text(bytes: &[u8]) -> Result<String, Malformed> {
    let mut parts: Vec<u64> = Vec::new();
    let mut value = 0u64;
    for (i, b) in bytes.iter().enumerate() {
        if value >> 56 != 0 {
            return Err(Malformed);
        }
        value = value << 7 | u64::from(b & 0x7f);
        if b & 0x80 == 0 {
            if parts.is_empty() {
                let first = (value / 40).min(2);
                parts.extend([first, value - 40 * first]);
            } else {
                parts.push(value);
            }
            value = 0;
        } else if i + 1 == bytes.len() {
            return Err(Malformed);
        }
    }
    if parts.is_empty() {
        return Err(Malformed);
    }
    Ok(parts.iter().map(u64::to_string).collect::<Vec<_>>().join("."))
}

/// The text of a string element, for any of the types that names use.
///
/// # Errors
/// If the element has no such type, or its bytes are no text of it.
pub fn text(element: &Element<'_>) -> Result<String, Malformed> {
    let c = element.content;
    match element.tag {
        tag::UTF8 => String::from_utf8(c.to_vec()).map_err(|_| Malformed),
        tag::PRINTABLE | tag::IA5 | tag::T61 => Ok(c.iter().map(|b| char::from(*b)).collect()),
        tag::BMP if c.len().is_multiple_of(2) => {
            let units: Vec<u16> = c.chunks_exact(2).map(|b| u16::from_be_bytes([b[0], b[1]])).collect();
            String::from_utf16(&units).map_err(|_| Malformed)
        }
        tag::UNIVERSAL if c.len().is_multiple_of(4) => c
            .chunks_exact(4)
            .map(|b| char::from_u32(u32::from_be_bytes([b[0], b[1], b[2], b[3]])).ok_or(Malformed))
            .collect(),
        _ => Err(Malformed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_are_taken_one_after_the_other_and_never_beyond_the_end() {
        let bytes = [0x30, 0x06, 0x02, 0x01, 0x05, 0x04, 0x01, 0xff, 0x05, 0x00];
        let mut all = Elements::new(&bytes);
        let mut inner = all.within(tag::SEQUENCE).unwrap();
        assert_eq!((inner.number(), inner.take(tag::OCTET_STRING)), (Ok(5), Ok(&[0xff][..])));
        assert!(inner.is_empty() && inner.any().is_err());
        assert_eq!(all.any().unwrap().whole, [5, 0]);
        for bytes in
            [&[0x30][..], &[0x30, 0x05, 1], &[0x30, 0x80, 0, 0], &[0x30, 0x85, 1, 1, 1, 1, 1], &[0x1f, 0x81, 0]]
        {
            assert!(Elements::new(bytes).any().is_err(), "{bytes:x?}");
        }
    }

    #[test]
    fn identifiers_are_written_in_digits() {
        assert_eq!(oid_text(&[0x55, 4, 3]).as_deref(), Ok("2.5.4.3"));
        assert_eq!(oid_text(&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 9, 1]).as_deref(), Ok("1.2.840.113549.1.9.1"));
        assert_eq!(oid_text(&[0x88, 0x37, 3]).as_deref(), Ok("2.999.3"));
        assert!(oid_text(&[]).is_err() && oid_text(&[0x55, 0x84]).is_err() && oid_text(&[0xff; 20]).is_err());
    }
}
