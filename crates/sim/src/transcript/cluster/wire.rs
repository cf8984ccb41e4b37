//! Messages of the storage protocol as lines that a person reads.

use super::BLOCK;
use trivet_storage::messages::*;
use trivet_storage::nfs::status;
use trivet_storage::replication::digests;
use trivet_storage::replication::owner::{Op, Outcome};

pub(super) fn pos(p: &Pos) -> String {
    format!("{}/{}/{}", p.lease, p.epoch, p.seq)
}

/// The text that a block holds; the rest of it is zeros.
pub(super) fn text(block: &[u8]) -> String {
    let end = block.iter().position(|b| *b == 0).unwrap_or(block.len());
    match end {
        0 => "zeros".into(),
        _ => format!("{:?}", String::from_utf8_lossy(&block[..end])),
    }
}

pub(super) fn block(text: &str) -> Vec<u8> {
    let mut block = text.as_bytes().to_vec();
    block.resize(BLOCK as usize, 0);
    block
}

pub(super) fn gateway(node: NodeId) -> String {
    match node {
        NodeId::NONE => "nobody".into(),
        NodeId(n) => ((b'A' + n as u8 - 1) as char).to_string(),
    }
}

pub(super) fn record(r: &Record) -> String {
    let mut parts = Vec::new();
    for (range, data) in r.pieces() {
        for at in (0..range.length).step_by(BLOCK as usize) {
            let number = (range.offset + at) / BLOCK;
            let holds = data.as_ref().map_or("zeros".into(), |d| text(&d[at as usize..]));
            let holds = if range.bad { "unreadable".into() } else { holds };
            parts.push(format!("block {number} = {holds}"));
        }
    }
    if !r.ops.is_empty() {
        parts.push(format!("ids {}", ids(&r.ops)));
    }
    format!("{} {}", pos(&r.pos), parts.join(", "))
}

fn ids(ops: &[OpId]) -> String {
    ops.iter().map(|id| format!("#{}", id.low)).collect::<Vec<_>>().join(" ")
}

pub(super) fn request(r: &ChunkRequest) -> String {
    let promise = format!("(lease {}, epoch {})", r.lease, r.epoch);
    match &r.op {
        Some(ChunkOp::Seal(s)) if s.keep => format!("SEAL {promise}: you join, keep no more than your bytes"),
        Some(ChunkOp::Seal(s)) if s.joining => format!("SEAL {promise}: you join, drop what you have"),
        Some(ChunkOp::Seal(s)) if s.create => format!("SEAL {promise}: make the extent"),
        Some(ChunkOp::Seal(_)) => format!("SEAL {promise}"),
        Some(ChunkOp::Write(w)) => format!("WRITE {}; committed to {}", record(w), pos(&w.stable)),
        Some(ChunkOp::Read(read)) => format!("READ block {} {promise}", read.offset / BLOCK),
        Some(ChunkOp::Digest(read)) => format!("DIGEST of block {} {promise}", read.offset / BLOCK),
        Some(ChunkOp::Confirm(_)) => format!("CONFIRM {promise}"),
        Some(ChunkOp::Stable(c)) if c.seq == 0 => "COMMITTED to nothing new: anything to tell?".into(),
        Some(ChunkOp::Stable(c)) => format!("COMMITTED to {}", pos(&Pos::new(c.lease, c.epoch, c.seq))),
        Some(ChunkOp::Free(_)) => format!("FREE {promise}"),
        Some(ChunkOp::Check(_)) => format!("CHECK {promise}"),
        None => "nothing".into(),
    }
}

pub(super) fn answer(a: &ChunkAnswer) -> String {
    let text = match &a.result {
        Some(ChunkResult::Sealed(s)) => {
            let above: Vec<String> = s.records.iter().map(record).collect();
            let above =
                if above.is_empty() { "nothing above".into() } else { format!("above that {}", above.join("; ")) };
            let kept = if s.kept { ", bytes kept" } else { "" };
            format!("sealed: committed to {}, {above}{kept}", pos(&s.stable))
        }
        Some(ChunkResult::Refused(r)) => format!("REFUSED: lease {}, epoch {} is promised", r.lease, r.epoch),
        Some(ChunkResult::Unknown(_)) => "UNKNOWN: no such copy here".into(),
        Some(ChunkResult::Damaged(_)) => "DAMAGED".into(),
        Some(ChunkResult::Done(_)) => "done".into(),
        Some(ChunkResult::Data(d)) => format!("data {}", self::text(&d.data)),
        Some(ChunkResult::Shut(_)) => "SHUT: restarted, and nobody has compared what is here".into(),
        Some(ChunkResult::NotYet(n)) => {
            format!(
                "NOT YET: this start was registered by entry {}, and the lease is confirmed as of an older one",
                n.registered_at
            )
        }
        Some(ChunkResult::WentBack(_)) => "WENT BACK: a promise is missing".into(),
        Some(ChunkResult::Bad(b)) => format!("BAD {}", blocks(&b.offsets)),
        Some(ChunkResult::Digests(d)) => {
            let digests = d.chunks(digests::DIGEST_BYTES);
            let start = |digest: &[u8]| digest.iter().take(3).map(|b| format!("{b:02x}")).collect::<String>();
            format!("digest {}", digests.map(start).collect::<Vec<_>>().join(" "))
        }
        None => "nothing".into(),
    };
    match (&a.bad[..], a.count) {
        ([], Some(count)) if matches!(a.result, Some(ChunkResult::Sealed(_))) => {
            format!("{text}; {} records so far", count.records)
        }
        ([], _) => text,
        (bad, _) => format!("{text}, and found BAD {}", blocks(bad)),
    }
}

fn blocks(offsets: &[u64]) -> String {
    offsets.iter().map(|o| format!("block {}", o / BLOCK)).collect::<Vec<_>>().join(", ")
}

fn nodes(replicas: &[ReplicaRef]) -> String {
    replicas.iter().map(|r| r.node.to_string()).collect::<Vec<_>>().join(" ")
}

fn joining(joiner: &Option<ReplicaRef>) -> String {
    joiner.as_ref().map_or(String::new(), |j| format!(", {} joins", j.node))
}

pub(super) fn configuration(c: &ExtentConfig) -> String {
    let active = if c.active { "active" } else { "not active" };
    format!("epoch {} with replicas {}{}, {active}", c.epoch, nodes(&c.replicas), joining(&c.joining))
}

pub(super) fn ask(op: &CommandOp) -> String {
    match op {
        CommandOp::Grant(g) if g.gateway.is_none() => format!("RELEASE lease {}", g.expected),
        CommandOp::Grant(g) => format!("GRANT the file to {}", gateway(g.gateway)),
        CommandOp::Allocate(a) => format!("ALLOCATE extent {} (lease {})", a.index, a.lease),
        CommandOp::Propose(p) if p.replicas.is_empty() => {
            format!("PROPOSE nothing: which configuration is current? (lease {})", p.lease)
        }
        CommandOp::Propose(p) => {
            let promote = if p.promote { ", promoted" } else { "" };
            format!(
                "PROPOSE after epoch {}: replicas {}{}{promote} (lease {})",
                p.epoch,
                nodes(&p.replicas),
                joining(&p.joining),
                p.lease
            )
        }
        CommandOp::Activate(a) => format!("ACTIVATE epoch {} (lease {})", a.epoch, a.lease),
        CommandOp::Size(s) => format!("SIZE {} bytes (lease {})", s.size, s.lease),
        other => format!("{other:?}"),
    }
}

pub(super) fn reply(r: &Reply) -> String {
    let extents: Vec<String> = r.extents.iter().map(configuration).collect();
    let lease =
        r.inode.as_ref().map_or(String::new(), |i| format!("lease {} of {}", i.lease.number, gateway(i.lease.gateway)));
    let said = [vec![lease], extents].concat().into_iter().filter(|s| !s.is_empty()).collect::<Vec<_>>().join("; ");
    match (r.status, said.is_empty()) {
        (status::OK, true) => "recorded".into(),
        (status::OK, false) => format!("recorded: {said}"),
        (code, true) => format!("refused with status {code}"),
        (code, false) => format!("refused with status {code}: {said}"),
    }
}

pub(super) fn granted(r: &Reply) -> String {
    match &r.inode {
        Some(inode) if r.status == status::OK => {
            let extents: Vec<String> = r.extents.iter().map(configuration).collect();
            let extents = if extents.is_empty() { "no extent yet".into() } else { extents.join("; ") };
            format!("lease {} is yours; {extents}", inode.lease.number)
        }
        _ => format!("refused with status {}", r.status),
    }
}

pub(super) fn operation(op: &Op) -> String {
    match op {
        Op::Read { offset, .. } => format!("read of block {}", offset / BLOCK),
        Op::Write { offset, data, .. } => format!("write of {} to block {}", text(data), offset / BLOCK),
        other => format!("{other:?}"),
    }
}

pub(super) fn outcome(o: &Outcome) -> String {
    match o {
        Outcome::Read { data, .. } => {
            format!("is {}", if data.is_empty() { "beyond the end".into() } else { text(data) })
        }
        Outcome::Written { .. } => "done".into(),
        Outcome::NotOwner => "not carried out: this gateway does not own the file".into(),
        Outcome::Unreadable => "failed: no replica can read the block".into(),
        other => format!("{other:?}"),
    }
}
