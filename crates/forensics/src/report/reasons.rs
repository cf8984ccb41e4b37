//! Why a role ended, in the language of the report: English as it stands in the log, Chinese by a table. Trivet servers write
//! a reason with their report on the election, `REASON; links: ...; detect 0 ms, ...`; Apache servers the leader's reason.

use super::Lang;
use trivet_events::translated;

/// Reasons of Trivet and Apache servers: `{}` stands for what differs, `{0}` for the first of these. More specific patterns stand
/// first.
const REASONS: &[(&str, &str)] = &[
    ("this server started", "本节点启动"),
    ("the connection to server {}, the leader, closed", "与 leader {0} 的连接已断开"),
    ("server {}, the leader, has been silent for {} ms", "leader {0} 已 {1} ms 无响应"),
    ("no synchronisation with server {} in time", "未能在时限内与 {0} 完成同步"),
    ("server {}, which was to lead, is silent", "当选的 leader {0} 无响应"),
    ("server {}, which was to lead, does not", "当选的 {0} 未担任 leader"),
    ("server {} says that it does not lead any more", "{0} 已不再是 leader"),
    (
        "server {} looks, and no quorum is left that could come to this elected leader",
        "{0} 重新进入选举，其余节点不足以组成多数派",
    ),
    ("no quorum of followers: server {} is gone, its connection closed", "follower 不足多数派：与 {0} 的连接已断开"),
    ("no quorum of followers: server {} is gone, silent for {} ms", "follower 不足多数派：{0} 已 {1} ms 无响应"),
    ("no quorum of followers: server {} is gone, {}", "follower 不足多数派：已失去 {0}（{1}）"),
    ("no quorum of followers in time (phase {})", "未能在时限内获得多数派 follower（阶段 {0}）"),
    ("no quorum of followers came to this elected leader", "当选后没有多数派 follower 加入"),
    ("its links turned bad before it led, and others can do without it", "就任前链路变差，其余节点可自行组成多数派"),
    (
        "its disk has finished nothing for {} ms, and others can do without it",
        "磁盘 {0} ms 内未完成任何写入，其余节点可自行组成多数派",
    ),
    ("server {} has promised epoch {}, newer than {}", "{0} 已承诺更新的 epoch {1}（本节点为 {2}）"),
    ("the leader broke the protocol", "leader 违反协议"),
    ("the leader hands over to server {}", "leader 主动移交给 {0}"),
    ("the lead goes to server {}: it was asked to lead", "应请求将 leader 移交给 {0}"),
    ("the lead goes to server {}: this server is about to stop", "本节点即将停止，将 leader 移交给 {0}"),
    ("the lead goes to server {}: the leader's links are bad: {}", "本节点链路异常（{1}），将 leader 移交给 {0}"),
    ("the lead goes to server {}: {}", "将 leader 移交给 {0}：{1}"),
    ("the members changed, and this server's part with them", "集群成员变更，本节点的角色随之改变"),
    ("the epoch's transaction ids are used up", "本 epoch 的事务号已用尽"),
    ("too many proposals are open", "未完成的提议过多"),
    ("the leader's epoch {} is older than {}, which was promised already", "leader 的 epoch {0} 低于已承诺的 {1}"),
    (
        "told to cut the log to {}, which is not in it: a snapshot is needed",
        "需要将日志截断到 {0}，但日志中没有该位置，须改用快照",
    ),
    ("the leader proposed what cannot be read", "leader 的提议无法解析"),
    ("the leader proposed {} behind {}: something is missing", "leader 在 {1} 之后提议 {0}，中间有缺失"),
    ("Not sufficient followers synced, only synced with sids: [ {} ]", "已同步的 follower 不足多数派，仅有 {0}"),
    ("Waiting for a quorum of followers, only synced with sids: [ {} ]", "等待多数派 follower 时超时，仅有 {0}"),
    (
        "zxid lower 32 bits have rolled over, forcing re-election, and therefore new epoch start",
        "zxid 低 32 位已用尽，强制重新选举以开始新 epoch",
    ),
    ("Unexpected internal error", "内部错误"),
    ("Forcing shutdown", "强制关闭"),
];

/// The parts of a report behind its reason.
const PARTS: &[(&str, &str)] = &[
    ("links: no bad link", "链路正常"),
    (
        "detect {} ms, elect {} ms, discover {} ms, sync {} ms, serving after {} ms",
        "发现 {0} ms，选举 {1} ms，协商 {2} ms，同步 {3} ms，共 {4} ms 后恢复服务",
    ),
];

pub(super) fn reason(lang: Lang, text: &str) -> String {
    if lang == Lang::English {
        return text.to_string();
    }
    let mut parts = text.split("; ");
    let mut out = translated(REASONS, parts.next().unwrap_or_default());
    for part in parts {
        // A server that has just been started knows of no links.
        match part.strip_prefix("links: ") {
            Some("") => {}
            Some(links) if links != "no bad link" => {
                let bad = links.replace("->", "→").replace(" loss ", " 丢包 ").replace(" silent ", " 无响应 ");
                out += &format!("；异常链路：{}", bad.replace(", ", "、"));
            }
            _ => out += &format!("；{}", translated(PARTS, part)),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_in_chinese() {
        for (en, zh) in [
            (
                "this server started; links: ; detect 0 ms, elect 9 ms, discover 67 ms, sync 27 ms, serving after 103 ms",
                "本节点启动；发现 0 ms，选举 9 ms，协商 67 ms，同步 27 ms，共 103 ms 后恢复服务",
            ),
            (
                "the connection to server 3, the leader, closed; links: no bad link; detect 0 ms, elect 3248 ms, discover 193 ms, sync 22 ms, serving after 3463 ms",
                "与 leader 3 的连接已断开；链路正常；发现 0 ms，选举 3248 ms，协商 193 ms，同步 22 ms，共 3463 ms 后恢复服务",
            ),
            (
                "server 3, the leader, has been silent for 412 ms; links: 3->1 loss 100 % silent 410 ms",
                "leader 3 已 412 ms 无响应；异常链路：3→1 丢包 100 % 无响应 410 ms",
            ),
            ("no quorum of followers: server 2 is gone, silent for 390 ms", "follower 不足多数派：2 已 390 ms 无响应"),
            (
                "Not sufficient followers synced, only synced with sids: [ [3] ]",
                "已同步的 follower 不足多数派，仅有 [3]",
            ),
            ("something of a later release", "something of a later release"),
        ] {
            assert_eq!(reason(Lang::Chinese, en), zh);
            assert_eq!(reason(Lang::English, en), en);
        }
    }
}
