//! Which paths are valid.

/// Holds the members, for clients to read and watch.
pub const CONFIG_NODE: &str = "/zookeeper/config";

/// Nodes that no client may delete.
pub const SPECIAL: [&str; 4] = ["/", "/zookeeper", "/zookeeper/quota", "/zookeeper/config"];

/// Apache's rules for the path of a node to be made or changed.
//= zookeeper 3.9 PathUtils.validatePath
pub fn is_valid(path: &str) -> bool {
    if path == "/" {
        return true;
    }
    if !path.starts_with('/') || path.ends_with('/') {
        return false;
    }
    path[1..].split('/').all(|part| !part.is_empty() && part != "." && part != "..") && !path.chars().any(is_forbidden)
}

fn is_forbidden(c: char) -> bool {
    // Apache forbids U+D800 to U+F8FF and the last sixteen of the plane, character by character of Java's: those beyond
    // the basic plane are two surrogates there, from U+D800 to U+DFFF, which cannot occur in a str.
    matches!(c as u32, 0..=0x1f | 0x7f..=0x9f | 0xe000..=0xf8ff | 0xfff0..)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn valid_and_invalid_paths() {
        for good in ["/", "/a", "/a/b.c", "/a/..b", "/数据"] {
            assert!(is_valid(good), "{good}");
        }
        for bad in [
            "",
            "a",
            "/a/",
            "//",
            "/a//b",
            "/a/./b",
            "/..",
            "/a\0",
            "/a\u{1f}",
            "/\u{7f}",
            "/\u{e000}",
            "/\u{fffd}",
            "/\u{10000}",
            "/a/😀",
        ] {
            assert!(!is_valid(bad), "{bad:?}");
        }
    }
}
