//! Events by which hosts tell of their NFS servers and of paths that are down.
//!
//! A host that loses a datastore for less than a reading's period shows nothing in the inventory afterwards; only its events tell.
//! No decision rests on them: each is recorded once, beside what the agent and the nodes did.

use crate::observed::HostEvent;
use crate::texts::Text;

/// Readings ask for the events of this long, in milliseconds; a host's status shows the newest of them.
pub const ASKED_FOR_MS: i64 = 3_600_000;
/// Events of the first reading are told up to this age, in milliseconds; an agent that has just taken over does not tell the whole hour again.
pub const TOLD_AT_FIRST_MS: i64 = 120_000;
/// Events of one reading; the newest are kept.
pub const EVENTS_MAX: usize = 256;
/// Events that a host's status shows; the newest.
pub const SHOWN_MAX: usize = 8;

/// A type of event.
struct Kind {
    id: &'static str,
    en: &'static str,
    zh: &'static str,
}

/// The types that are asked for, and their texts behind the host's name.
const KINDS: &[Kind] = &[
    Kind {
        id: "esx.problem.vmfs.nfs.server.disconnect",
        en: "lost its connection to an NFS server",
        zh: "与 NFS 服务器的连接已断开",
    },
    Kind {
        id: "esx.clear.vmfs.nfs.server.restored",
        en: "is connected to an NFS server again",
        zh: "与 NFS 服务器的连接已恢复",
    },
    Kind {
        id: "esx.problem.vmfs.nfs.mount.failed",
        en: "could not mount an NFS datastore",
        zh: "挂载 NFS 数据存储失败",
    },
    Kind {
        id: "esx.problem.vmfs.nfs.volume.no.space",
        en: "found no space left on an NFS datastore",
        zh: "上报 NFS 数据存储空间不足",
    },
    Kind {
        id: "esx.problem.storage.apd.start", en: "has all paths down (APD)", zh: "进入全路径失效（APD）状态"
    },
    Kind {
        id: "esx.problem.storage.apd.timeout",
        en: "has had all paths down for longer than its APD time-out",
        zh: "全路径失效（APD）已超时",
    },
    Kind {
        id: "esx.clear.storage.apd.exit", en: "has its paths back (APD ended)", zh: "已退出全路径失效（APD）状态"
    },
];

/// Types of the events that a reading asks for.
pub fn ids() -> impl Iterator<Item = &'static str> {
    KINDS.iter().map(|kind| kind.id)
}

/// An event of this type, of a host with this name, in both languages; one of an unknown type by its id.
pub fn text(host: &str, id: &str) -> Text {
    match KINDS.iter().find(|kind| kind.id == id) {
        Some(kind) => Text { en: format!("host {host} {}", kind.en), zh: format!("主机 {host} {}", kind.zh) },
        None => Text { en: format!("host {host} reports {id}"), zh: format!("主机 {host} 上报 {id}") },
    }
}

/// Events of a reading that were not in the one before; of the first reading, those that are not old. Oldest first.
pub fn new<'a>(before: Option<&[HostEvent]>, found: &'a [HostEvent], wall_ms: i64) -> Vec<&'a HostEvent> {
    let is_new = |event: &&HostEvent| match before {
        Some(before) => !before.contains(event),
        None => wall_ms - event.wall_ms <= TOLD_AT_FIRST_MS,
    };
    let mut out: Vec<_> = found.iter().filter(is_new).collect();
    out.sort_by_key(|event| event.wall_ms);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observed::HostRef;

    fn event(id: &str, wall_ms: i64) -> HostEvent {
        HostEvent { host: HostRef("host-1".into()), kind: id.into(), message: String::new(), wall_ms }
    }

    #[test]
    fn an_event_is_told_once_and_an_old_one_not_at_all() {
        let (start, exit) = ("esx.problem.storage.apd.start", "esx.clear.storage.apd.exit");
        let now = 10_000_000;
        let first = [event(exit, now - 1_000), event(start, now - TOLD_AT_FIRST_MS), event(start, now - 3_000_000)];
        let told: Vec<_> = new(None, &first, now).into_iter().map(|e| e.wall_ms).collect();
        assert_eq!(told, [now - TOLD_AT_FIRST_MS, now - 1_000], "oldest first");
        let next = [first.to_vec(), vec![event(start, now - 2_000)]].concat();
        let told: Vec<_> = new(Some(&first), &next, now + 30_000).into_iter().map(|e| e.wall_ms).collect();
        assert_eq!(told, [now - 2_000], "one that vCenter shows late is new all the same");
        assert!(new(Some(&next), &next, now).is_empty());
    }

    #[test]
    fn each_type_has_its_text_in_both_languages() {
        for id in ids() {
            let told = text("esx1", id);
            assert!(
                told.en.starts_with("host esx1 ") && told.zh.starts_with("主机 esx1 ") && !told.en.contains(id),
                "{id}"
            );
        }
        assert!(text("esx1", "esx.other").en.contains("esx.other"));
    }
}
