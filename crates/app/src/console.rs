//! The common part of the console's subcommands: which node is asked, and how.

use crate::status::{consoles, find_config};
use std::net::SocketAddr;
use std::path::Path;
use trivet_node::config::NodeConfig;
use trivet_node::keys::Keys;
use trivet_node::status::{ask, FetchError};

/// The consoles of a cluster, asked with its key.
pub struct Consoles {
    pub config: NodeConfig,
    keys: Keys,
    all: Vec<(u32, Vec<SocketAddr>)>,
}

impl Consoles {
    /// # Errors
    /// No cluster is known there, or its key cannot be read.
    pub fn of(data: &Path) -> anyhow::Result<Consoles> {
        let config = find_config(data)?;
        Ok(Consoles { keys: config.keys()?, all: consoles(&config), config })
    }

    /// Asks one node after another until one answers.
    ///
    /// # Errors
    /// No console answers, or the first that answers refuses.
    pub fn ask(&self, method: &str, path: &str, form: &str) -> anyhow::Result<Vec<u8>> {
        let mut why = None;
        for address in self.all.iter().filter_map(|(_, a)| a.first()) {
            match ask(&self.keys, *address, method, path, form) {
                Ok(body) => return Ok(body),
                Err(FetchError::Silent(e)) => why = Some(e),
                Err(e) => anyhow::bail!("{address} {e}"),
            }
        }
        let why = why.map_or_else(|| "there is none".to_string(), |e| e.to_string());
        anyhow::bail!("no node's console answers ({why}); `trivet up` starts a cluster")
    }

    /// The parsed answers of all nodes that answer.
    pub fn ask_all<T: serde::de::DeserializeOwned>(&self, path: &str) -> Vec<(u32, T)> {
        let nodes = self.all.iter().filter_map(|(n, a)| Some((*n, *a.first()?)));
        nodes
            .filter_map(|(n, a)| Some((n, serde_json::from_slice(&ask(&self.keys, a, "GET", path, "").ok()?).ok()?)))
            .collect()
    }

    /// A link that signs in at a node's console, once.
    pub fn link(&self) -> Option<String> {
        let address = self.all.iter().filter_map(|(_, a)| a.first()).next()?;
        let code = trivet_node::console::accounts::link_code(self.keys.in_use(), trivet_node::clock::wall_ms());
        let scheme = if self.config.console.speaks_tls(address.ip()) { "https" } else { "http" };
        Some(format!("{scheme}://{address}/login?code={code}"))
    }
}

/// A form's fields as they are posted.
pub fn form(fields: &[(&str, &str)]) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.~".contains(&b);
    let encode = |t: &str| -> String {
        t.bytes().map(|b| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
    };
    fields.iter().map(|(k, v)| format!("{k}={}", encode(v))).collect::<Vec<_>>().join("&")
}

/// Text for a terminal: names come from outside, and control characters would be obeyed.
pub fn shown(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_posted_cannot_end_its_field_and_what_is_shown_cannot_steer_a_terminal() {
        assert_eq!(form(&[("a", "x&b=y"), ("c", "节")]), "a=x%26b%3Dy&c=%E8%8A%82");
        assert_eq!(shown("a\u{1b}[31m\n"), "a\u{fffd}[31m\u{fffd}");
    }
}
