//! Lines about connections.

use crate::requests::clients::Clients;
use crate::stats::figures::op_name;
use std::collections::BTreeMap;

/// The interest of Java's selector in a connection that is served: OP_READ.
const INTEREST: &str = "1";

impl Clients {
    //= zookeeper 3.9 ServerCnxn.dumpConnectionInfo, brief
    pub(super) fn list_short(&self) -> String {
        let mut lines: Vec<_> = self.conns().map(|(id, c)| (id, c.port, c)).collect();
        lines.sort_unstable_by_key(|(id, ..)| *id);
        lines
            .into_iter()
            .map(|(_, port, c)| {
                let f = &c.figures;
                let queued = c.queued();
                format!(" /{}:{port}[{INTEREST}](queued={queued},recved={},sent={})\n", c.ip, f.received, f.sent)
            })
            .collect()
    }

    //= zookeeper 3.9 ServerCnxn.dumpConnectionInfo, long
    pub(super) fn list_long(&self) -> String {
        let mut all: Vec<_> = self.conns().collect();
        all.sort_unstable_by_key(|(id, _)| *id);
        let mut out = String::new();
        for (_, c) in all {
            let f = &c.figures;
            out += &format!(
                " /{}:{}[{INTEREST}](queued={},recved={},sent={}",
                c.ip,
                c.port,
                c.queued(),
                f.received,
                f.sent
            );
            if c.established() {
                out += &format!(
                    ",sid=0x{:x},lop={},est={},to={}",
                    c.session.0,
                    op_name(f.last_op),
                    f.established_ms,
                    c.timeout_ms
                );
                if f.last_cxid >= 0 && f.last_op.is_some() {
                    out += &format!(",lcxid=0x{:x}", f.last_cxid);
                }
                out += &format!(
                    ",lzxid=0x{:x},lresp={},llat={},minlat={},avglat={},maxlat={}",
                    f.last_zxid,
                    f.last_response_ms,
                    f.last_latency(),
                    f.latency.min(),
                    f.latency.mean() as u64,
                    f.latency.max()
                );
            }
            out += ")\n";
        }
        out
    }

    pub(super) fn reset_figures(&mut self) {
        self.conns_mut().for_each(|c| c.figures.reset());
    }

    /// Connections by the time at which their silence ends them.
    pub(super) fn dump(&self) -> String {
        let mut sets: BTreeMap<i32, Vec<String>> = BTreeMap::new();
        for (_, c) in self.conns() {
            sets.entry(c.timeout_ms)
                .or_default()
                .push(format!("\tip: /{}:{} sessionId: 0x{:x}\n", c.ip, c.port, c.session.0));
        }
        let mut out = format!("Connections dump:\nConnections Sets ({})/({}):\n", sets.len(), self.len());
        for (timeout_ms, lines) in sets {
            out += &format!("{} expire after {timeout_ms}ms of silence:\n", lines.len());
            out.extend(lines);
        }
        out
    }
}
