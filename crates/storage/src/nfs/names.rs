//! Names as people read them. A name is bytes, in whatever encoding the client's user has; it is compared and stored as
//! it came, and escaped only where it is shown.

use super::status;
use crate::codes::NfsStatus;

/// The name as text for logs, status and JSON: UTF-8 stays, a byte that is none, a control character and a backslash
/// are written as `\xNN` and `\\`, so that two different names never look the same.
pub fn printable(name: &[u8]) -> String {
    let mut out = String::with_capacity(name.len());
    for chunk in name.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\\' => out.push_str("\\\\"),
                c if is_unprintable(c) => {
                    let mut bytes = [0; 4];
                    c.encode_utf8(&mut bytes).bytes().for_each(|b| out.push_str(&format!("\\x{b:02x}")));
                }
                c => out.push(c),
            }
        }
        chunk.invalid().iter().for_each(|b| out.push_str(&format!("\\x{b:02x}")));
    }
    out
}

/// Control characters, and those that change how the text around them is shown: line and paragraph separators,
/// embeddings, overrides and isolates of direction, and characters of no width.
pub fn is_unprintable(c: char) -> bool {
    let hidden = matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}');
    c.is_control() || hidden
}

/// Whether something can be made at this name, as far as that shows without looking into the folder.
///
/// # Errors
/// EXIST where every folder has the name, INVAL where there is none, or where a link leads nowhere.
pub fn may_be_made(name: &[u8], leads_nowhere: bool) -> Result<(), NfsStatus> {
    match name {
        b"." | b".." => Err(status::EXIST),
        b"" => Err(status::INVAL),
        _ if leads_nowhere => Err(status::INVAL),
        _ => Ok(()),
    }
}

/// Likewise for what is to be removed.
///
/// # Errors
/// INVAL where there is no name, NAMETOOLONG for one that nothing can have.
pub fn may_be_removed(name: &[u8], bytes_max: usize) -> Result<(), NfsStatus> {
    match name.len() {
        0 => Err(status::INVAL),
        n if n > bytes_max => Err(status::NAMETOOLONG),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_cannot_be_are_refused_as_other_servers_do() {
        assert_eq!(may_be_made(b"..", false), Err(status::EXIST));
        assert_eq!(may_be_made(b".", true), Err(status::EXIST));
        assert_eq!((may_be_made(b"", false), may_be_made(b"a", true)), (Err(status::INVAL), Err(status::INVAL)));
        assert_eq!(may_be_made(b"...", false), Ok(()));
        assert_eq!((may_be_removed(b"", 255), may_be_removed(b"a", 255)), (Err(status::INVAL), Ok(())));
        assert_eq!(
            (may_be_removed(&[b'n'; 255], 255), may_be_removed(&[b'n'; 256], 255)),
            (Ok(()), Err(status::NAMETOOLONG))
        );
    }

    #[test]
    fn different_names_look_different_and_none_breaks_a_line() {
        assert_eq!(printable("虚拟机.vmdk".as_bytes()), "虚拟机.vmdk");
        // The same in GBK.
        assert_eq!(printable(b"\xd0\xe9\xc4\xe2\xbb\xfa"), "\\xd0\\xe9\\xc4\\xe2\\xbb\\xfa");
        assert_eq!(printable(b"a\nb\x1b[31m\\x0a"), "a\\x0ab\\x1b[31m\\\\x0a");
        assert_eq!(printable("x\u{202e}y".as_bytes()), "x\\xe2\\x80\\xaey");
        let names: [&[u8]; 4] = [b"\xd0", b"\\xd0", "\u{fffd}".as_bytes(), b"\xe9"];
        let shown: std::collections::BTreeSet<_> = names.iter().map(|n| printable(n)).collect();
        assert_eq!(shown.len(), names.len());
    }
}
