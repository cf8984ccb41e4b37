//! Java properties, and the settings in them.

use super::ConfigError;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Settings of one server: of its file, and behind those what was given with `-D`, as Apache orders them.
pub(super) struct Properties {
    path: PathBuf,
    values: BTreeMap<String, String>,
}

/// `zookeeper.x` and `x` are one setting: what a file calls x is the property zookeeper.x of the Java process.
fn plain(key: &str) -> &str {
    key.strip_prefix("zookeeper.").unwrap_or(key)
}

impl Properties {
    pub(super) fn new(path: &Path, text: &str, defines: &[String]) -> Self {
        let mut values = BTreeMap::new();
        for define in defines {
            let (key, value) = define.split_once('=').unwrap_or((define, "true"));
            values.insert(plain(key).to_string(), value.to_string());
        }
        let mut p = Properties { path: path.into(), values };
        p.add(text);
        p
    }
    pub(super) fn add(&mut self, text: &str) {
        self.values.extend(parse(text).into_iter().map(|(k, v)| (plain(&k).to_string(), v)));
    }
    pub(super) fn take(&mut self, key: &str) -> Option<String> {
        self.values.remove(key)
    }
    pub(super) fn get(&self, key: &str) -> Option<&str> {
        self.values.get(key).map(String::as_str)
    }
    pub(super) fn keys(&self) -> impl Iterator<Item = &String> {
        self.values.keys()
    }
    pub(super) fn into_keys(self) -> impl Iterator<Item = String> {
        self.values.into_keys()
    }
    pub(super) fn bad(&self, key: &str, value: &str, reason: &str) -> ConfigError {
        ConfigError::Value { path: self.path.clone(), key: key.into(), value: value.into(), reason: reason.into() }
    }
    pub(super) fn number<T: std::str::FromStr>(&mut self, key: &str, default: T) -> Result<T, ConfigError> {
        match self.take(key) {
            None => Ok(default),
            Some(v) => v.parse().map_err(|_| self.bad(key, &v, "it is not a number in range")),
        }
    }
    /// A number, or -1 for the default.
    pub(super) fn number_or_default(&mut self, key: &str, default: i32) -> Result<i32, ConfigError> {
        self.number(key, -1).map(|n| if n == -1 { default } else { n })
    }
    /// A number that Java also takes in hexadecimal digits.
    pub(super) fn bytes(&mut self, key: &str, default: usize) -> Result<usize, ConfigError> {
        let Some(v) = self.take(key) else { return Ok(default) };
        let parsed = match v.strip_prefix("0x") {
            Some(hex) => usize::from_str_radix(hex, 16),
            None => v.parse(),
        };
        parsed.map_err(|_| self.bad(key, &v, "it is not a number in range"))
    }
    pub(super) fn flag(&mut self, key: &str) -> bool {
        self.take(key).is_some_and(|v| v.eq_ignore_ascii_case("true"))
    }
}

/// As far as configuration files use them: comments, `=`, `:` or space, continuations.
pub(super) fn parse(text: &str) -> BTreeMap<String, String> {
    let mut out = BTreeMap::new();
    let joined = text.replace("\\\r\n", "").replace("\\\n", "");
    for line in joined.lines() {
        let line = line.trim();
        if line.is_empty() || line.starts_with(['#', '!']) {
            continue;
        }
        let at = line.find(['=', ':', ' ', '\t']).unwrap_or(line.len());
        let (key, rest) = line.split_at(at);
        let value = rest.trim_start().trim_start_matches(['=', ':']).trim();
        out.insert(key.trim().to_string(), value.to_string());
    }
    out
}
