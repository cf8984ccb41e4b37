//! Stats, data and events for people and for programs.

use serde_json::{json, Value};
use trivet_formats::client::Stat;

pub fn stat_json(s: &Stat) -> Value {
    json!({
        "cZxid": s.czxid, "ctime": s.ctime, "mZxid": s.mzxid, "mtime": s.mtime, "pZxid": s.pzxid,
        "cversion": s.cversion, "dataVersion": s.version, "aclVersion": s.aversion,
        "ephemeralOwner": s.ephemeral_owner, "dataLength": s.data_length, "numChildren": s.num_children,
    })
}

/// Lines as zkCli.sh has them; times in milliseconds since 1970.
pub fn stat_text(s: &Stat) -> String {
    format!(
        "cZxid = {:#x}\nctime = {}\nmZxid = {:#x}\nmtime = {}\npZxid = {:#x}\ncversion = {}\ndataVersion = {}\naclVersion = {}\n\
         ephemeralOwner = {:#x}\ndataLength = {}\nnumChildren = {}",
        s.czxid,
        s.ctime,
        s.mzxid,
        s.mtime,
        s.pzxid,
        s.cversion,
        s.version,
        s.aversion,
        s.ephemeral_owner,
        s.data_length,
        s.num_children
    )
}

/// Data that is no text comes as hexadecimal digits.
pub fn data_json(data: &[u8]) -> Value {
    match std::str::from_utf8(data) {
        Ok(text) => json!({ "data": text }),
        Err(_) => json!({ "hex": data.iter().map(|b| format!("{b:02x}")).collect::<String>() }),
    }
}

pub fn event_name(kind: i32) -> &'static str {
    match kind {
        1 => "NodeCreated",
        2 => "NodeDeleted",
        3 => "NodeDataChanged",
        4 => "NodeChildrenChanged",
        _ => "Event",
    }
}
