//! The texts of four-letter words, taken apart into the JSON that Apache's AdminServer answers with.

use serde_json::{json, Map, Value};
use std::collections::BTreeSet;

pub(super) type Object = Map<String, Value>;

pub(super) fn object(value: Value) -> Object {
    match value {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

/// Numbers as numbers, all else as text.
pub(super) fn number(text: &str) -> Value {
    if let Ok(n) = text.parse::<i64>() {
        return n.into();
    }
    match text.parse::<f64>() {
        Ok(n) if n.is_finite() => n.into(),
        _ => text.into(),
    }
}

/// Java's `long` of `0x1f`.
fn hexadecimal(text: &str) -> Option<i64> {
    u64::from_str_radix(text.trim().strip_prefix("0x")?, 16).ok().map(u64::cast_signed)
}

/// The same as a number where it is one.
fn long(text: &str) -> Value {
    hexadecimal(text).map_or_else(|| number(text), Value::from)
}

pub(super) fn pairs(text: &str, between: &str) -> Object {
    text.lines().filter_map(|l| l.split_once(between)).map(|(k, v)| (k.trim().to_string(), number(v))).collect()
}

/// `zk_name<TAB>value` of `mntr`.
pub(super) fn figures(text: &str) -> Object {
    let line = |l: &str| {
        let (name, value) = l.split_once('\t')?;
        Some((name.strip_prefix("zk_").unwrap_or(name).to_string(), number(value)))
    };
    text.lines().filter_map(line).collect()
}

/// `server_stats`, from the figures of `mntr`.
//= zookeeper 3.9 Commands.SrvrCommand, ServerStats
pub(super) fn stats(figures: &Object, sizes: &Object, last_zxid: i64, read_only: bool) -> Object {
    let get = |name: &str| figures.get(name).cloned().unwrap_or(json!(0));
    let size = |name: &str| sizes.get(name).cloned().unwrap_or(json!(0));
    let buffer = |name: &str| {
        let size = |which: &str| figures.get(&format!("{which}_{name}_size")).cloned().unwrap_or(json!(-1));
        json!({ "last_buffer_size": size("last"), "min_buffer_size": size("min"), "max_buffer_size": size("max") })
    };
    let mut out = object(json!({
        "version": get("version"),
        "read_only": read_only,
        "server_stats": {
            "packets_sent": get("packets_sent"),
            "packets_received": get("packets_received"),
            "fsync_threshold_exceed_count": get("fsync_threshold_exceed_count"),
            "client_response_stats": buffer("client_response"),
            "data_dir_size": size("datadir_size"),
            "log_dir_size": size("logdir_size"),
            "server_state": get("server_state"),
            "avg_latency": get("avg_latency"),
            "max_latency": get("max_latency"),
            "min_latency": get("min_latency"),
            "outstanding_requests": get("outstanding_requests"),
            "last_processed_zxid": last_zxid,
            "num_alive_client_connections": get("num_alive_connections"),
            "auth_failed_count": get("auth_failed_count"),
            "non_mtlsremote_conn_count": get("non_mtls_remote_conn_count"),
            "non_mtlslocal_conn_count": get("non_mtls_local_conn_count"),
            "uptime": get("uptime"),
            "provider_null": false,
        },
        "client_response": buffer("client_response"),
        "node_count": get("znode_count"),
    }));
    if figures.contains_key("last_proposal_size") {
        out.insert("proposal_stats".into(), buffer("proposal"));
    }
    out
}

/// `clientPort=2181` as `client_port`: the nine settings that Apache shows.
//= zookeeper 3.9 ZooKeeperServerConf.toMap
pub(super) fn configuration(text: &str) -> Object {
    const SHOWN: [(&str, &str); 9] = [
        ("clientPort", "client_port"),
        ("dataDir", "data_dir"),
        ("dataLogDir", "data_log_dir"),
        ("tickTime", "tick_time"),
        ("maxClientCnxns", "max_client_cnxns"),
        ("minSessionTimeout", "min_session_timeout"),
        ("maxSessionTimeout", "max_session_timeout"),
        ("serverId", "server_id"),
        ("clientPortListenBacklog", "client_port_listen_backlog"),
    ];
    let plain = text.split("membership:").next().unwrap_or_default();
    let line = |l: &str| {
        let (key, value) = l.split_once('=')?;
        let (_, shown) = SHOWN.iter().find(|(name, _)| *name == key)?;
        Some((shown.to_string(), number(value)))
    };
    plain.lines().filter_map(line).collect()
}

/// ` /127.0.0.1:4711[1](queued=0,recved=1,...)` of `cons`.
//= zookeeper 3.9 ServerCnxn.getConnectionInfo
fn connection(line: &str, brief: bool) -> Option<Value> {
    let (address, rest) = line.trim().strip_prefix('/')?.split_once('[')?;
    let (interest, rest) = rest.split_once("](")?;
    let mut out = object(json!({ "remote_socket_address": address, "interest_ops": number(interest) }));
    for (key, value) in rest.trim_end_matches(')').split(',').filter_map(|p| p.split_once('=')) {
        let key = match key {
            "queued" => "outstanding_requests",
            "recved" => "packets_received",
            "sent" => "packets_sent",
            _ if brief => continue,
            "sid" => "session_id",
            "lop" => "last_operation",
            "est" => "established",
            "to" => "session_timeout",
            "lcxid" => "last_cxid",
            "lzxid" => "last_zxid",
            "lresp" => "last_response_time",
            "llat" => "last_latency",
            "minlat" => "min_latency",
            "avglat" => "avg_latency",
            "maxlat" => "max_latency",
            other => other,
        };
        out.insert(key.into(), long(value));
    }
    // The word leaves it out before the first request.
    if !brief {
        out.entry("last_cxid").or_insert(json!(-1));
    }
    Some(Value::Object(out))
}

pub(super) fn connections(text: &str, brief: bool) -> Vec<Value> {
    text.lines().filter_map(|l| connection(l, brief)).collect()
}

/// The voters of `server.1=host:2888:3888:participant;host:2181`.
//= zookeeper 3.9 Commands.VotingViewCommand
pub(super) fn voters(text: &str) -> Object {
    let line = |l: &str| {
        let (id, value) = l.trim().strip_prefix("server.")?.split_once('=')?;
        let (peer, client) = value.split_once(';').unwrap_or((value, ""));
        if peer.ends_with(":observer") {
            return None;
        }
        let (quorum, election) = quorum_and_election(peer)?;
        let one = json!({
            "server_addresses": quorum, "election_addresses": election, "client_address": client,
            "learner_type": "participant",
        });
        Some((id.to_string(), one))
    };
    text.lines().filter_map(line).collect()
}

/// The addresses of the quorum port and those of the election port, of `host:2888:3888|host:2888:3888:participant`.
fn quorum_and_election(peer: &str) -> Option<(Vec<String>, Vec<String>)> {
    let peer = peer.trim_end_matches(":participant").trim_end_matches(":observer");
    let one = |address: &str| {
        let (rest, election) = address.rsplit_once(':')?;
        let (host, quorum) = rest.rsplit_once(':')?;
        Some((format!("{host}:{quorum}"), format!("{host}:{election}")))
    };
    peer.split('|').map(one).collect()
}

/// Quorum, election and client address of one server; of the first two there may be several.
pub(super) fn addresses(text: &str, server: i64) -> Option<(Vec<String>, Vec<String>, String)> {
    let line = text.lines().find_map(|l| l.trim().strip_prefix(&format!("server.{server}=")))?;
    let (peer, client) = line.split_once(';').unwrap_or((line, ""));
    let (quorum, election) = quorum_and_election(peer)?;
    Some((quorum, election, client.into()))
}

/// The two lines of `wchs`.
pub(super) fn watch_summary(text: &str) -> Object {
    let numbers: Vec<i64> =
        text.split(|c: char| !c.is_ascii_digit()).filter(|d| !d.is_empty()).filter_map(|d| d.parse().ok()).collect();
    let get = |i: usize| numbers.get(i).copied().unwrap_or(0);
    object(json!({ "num_connections": get(0), "num_paths": get(1), "num_total_watches": get(2) }))
}

/// Headings, and behind tabs what belongs to each; numbers of sessions are decimal, as Java's are.
pub(super) fn indented(text: &str) -> Object {
    let mut out: Object = Map::new();
    let mut heading = String::new();
    for line in text.lines().filter(|l| !l.is_empty()) {
        match line.strip_prefix('\t') {
            Some(item) => {
                if let Some(Value::Array(list)) = out.get_mut(&heading) {
                    list.push(long(item));
                }
            }
            None => {
                let line = line.trim_end_matches(':');
                heading = hexadecimal(line).map_or_else(|| line.to_string(), |id| id.to_string());
                out.entry(heading.clone()).or_insert_with(|| json!([]));
            }
        }
    }
    out
}

/// The ephemeral znodes that `dump` lists by their sessions.
//= zookeeper 3.9 Commands.DumpCommand
pub(super) fn ephemerals(text: &str) -> Object {
    let rest = text.split_once("ephemeral nodes dump:\n").map_or("", |(_, rest)| rest);
    let listed = rest.split_once("):\n").map_or("", |r| r.1).split("Connections").next().unwrap_or_default();
    object(json!({ "session_id_to_ephemeral_paths": indented(listed) }))
}

/// A server's own addresses as Java's library writes the set of them.
//= zookeeper 3.9 server/quorum/MultipleAddresses.java
pub(super) fn own_addresses(addresses: &[String]) -> Value {
    let one = addresses.first();
    let split = |a: &String| a.rsplit_once(':').map_or((a.clone(), String::new()), |(h, p)| (h.into(), p.into()));
    let (mut hosts, mut ports): (Vec<String>, Vec<String>) = addresses.iter().map(split).unzip();
    keep_first(&mut ports);
    hosts.iter_mut().for_each(|h| *h = h.trim_matches(['[', ']']).into());
    keep_first(&mut hosts);
    let wildcards: Vec<String> = ports.iter().map(|port| format!("0.0.0.0:{port}")).collect();
    json!({
        "empty": addresses.is_empty(), "one": one, "reachable_address": one, "reachable_or_one": one,
        "all_addresses": addresses, "all_reachable_addresses": addresses, "all_reachable_addresses_or_all": addresses,
        "wildcard_addresses": wildcards, "all_ports": ports.iter().map(|p| number(p)).collect::<Vec<_>>(),
        "all_host_strings": hosts,
    })
}

/// Leaves the first of equal texts, wherever the others stand.
fn keep_first(all: &mut Vec<String>) {
    let mut seen = BTreeSet::new();
    all.retain(|text| seen.insert(text.clone()));
}

/// `ZXID: DIGEST` of `hash`.
pub(super) fn digests(text: &str) -> Object {
    let line = |l: &str| {
        let (zxid, digest) = l.split_once(": ")?;
        Some(json!({ "zxid": i64::from_str_radix(zxid, 16).ok()?, "digest": number(digest) }))
    };
    object(json!({ "digests": text.lines().filter_map(line).collect::<Vec<_>>() }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_words_become_apaches_json() {
        let f = figures("zk_version\t3.9.5-x, built on y\nzk_avg_latency\t0.25\nzk_znode_count\t5\n");
        assert_eq!((&f["avg_latency"], &f["znode_count"], f["version"].is_string()), (&json!(0.25), &json!(5), true));
        let s = stats(&f, &pairs("datadir_size: 9\n", ": "), 7, false);
        assert_eq!(s["server_stats"]["data_dir_size"], json!(9));
        assert_eq!((&s["node_count"], &s["server_stats"]["last_processed_zxid"]), (&json!(5), &json!(7)));
        assert!(!s.contains_key("proposal_stats"));
        let conf = "clientPort=2181\nsecureClientPort=-1\ndataDir=/d\nmaxClientCnxns=60\nclientPortListenBacklog=-1\ninitLimit=5\nmembership: \n\
                    server.1=h:2888:3888:participant;0.0.0.0:2181\nserver.2=[::1]:1:2:observer\nversion=0";
        let c = configuration(conf);
        let keys: Vec<&String> = c.keys().collect();
        assert_eq!(keys, ["client_port", "client_port_listen_backlog", "data_dir", "max_client_cnxns"]);
        assert_eq!((&c["client_port"], &c["data_dir"]), (&json!(2181), &json!("/d")));
        let v = voters(conf);
        assert_eq!((v.len(), &v["1"]["server_addresses"]), (1, &json!(["h:2888"])));
        let of = addresses(conf, 2).unwrap();
        assert_eq!(of, (vec!["[::1]:1".to_string()], vec!["[::1]:2".to_string()], String::new()));
        let two = "server.1=a:1:2|[::1]:1:3:participant;h:4";
        assert_eq!(voters(two)["1"]["election_addresses"], json!(["a:2", "[::1]:3"]));
        let own = own_addresses(&addresses(two, 1).unwrap().0);
        assert_eq!((&own["all_ports"], &own["all_host_strings"]), (&json!([1]), &json!(["a", "::1"])));
        let line = " /127.0.0.1:47[1](queued=0,recved=2,sent=1,sid=0x1f,lop=PING,to=4000)";
        let one = &connections(line, false)[0];
        assert_eq!((&one["remote_socket_address"], &one["packets_received"]), (&json!("127.0.0.1:47"), &json!(2)));
        assert_eq!((&one["session_id"], &one["last_operation"]), (&json!(31), &json!("PING")));
        assert_eq!(connections(line, true)[0].get("session_id"), None);
        assert_eq!(watch_summary("1 connections watching 2 paths\nTotal watches:3\n")["num_total_watches"], json!(3));
        let by_session = indented("0xffffffffffffffff\n\t/a\n\t/b\n0x2\n\t/a\n\n");
        assert_eq!((&by_session["-1"], &by_session["2"]), (&json!(["/a", "/b"]), &json!(["/a"])));
        assert_eq!(indented("/a\n\t0x10\n")["/a"], json!([16]));
        let d = ephemerals("SessionTracker dump:\nSession Sets (1)/(1):\n1 expire at Sun:\n\t0x10\nephemeral nodes dump:\nSessions with Ephemerals (1):\n0x10:\n\t/e\n");
        assert_eq!(d["session_id_to_ephemeral_paths"]["16"], json!(["/e"]));
        let own = own_addresses(&["[::1]:2888".to_string()]);
        assert_eq!((&own["all_ports"], &own["all_host_strings"]), (&json!([2888]), &json!(["::1"])));
        assert_eq!(digests("1f: -5\n")["digests"], json!([{ "zxid": 31, "digest": -5 }]));
        for damaged in ["", "\t", "=", "server.1=", " /[", "0x", "\t0x10", ": ", " expire at "] {
            let _ = (figures(damaged), configuration(damaged), voters(damaged), indented(damaged), ephemerals(damaged));
            let _ = (connections(damaged, false), digests(damaged), addresses(damaged, 1), watch_summary(damaged));
        }
    }
}
