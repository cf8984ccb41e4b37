//! Texts in Chinese by a table: reasons that cores make, with their numbers in them, and records of earlier releases.

/// Texts of records and of their reasons: `{}` stands for what differs, `{0}` for the first of these. The more exact row
/// stands first.
const TEXTS: &[(&str, &str)] = &[
    ("no longer LEADER of epoch {}", "不再是 epoch {0} 的 LEADER"),
    ("LEADER of epoch {}", "成为 epoch {0} 的 LEADER"),
    ("metad's LEADER is node {} (epoch {})", "metad 的 LEADER 是节点 {0}（epoch {1}）"),
    ("it answered", "已应答"),
    ("{} MiB are free in {}, {} MiB are kept for the system", "{1} 剩余 {0} MiB，其中 {2} MiB 留给系统"),
    ("{} MiB are free in {}", "{1} 剩余 {0} MiB"),
    ("file handles without a tag count for the files that exist only", "无标签的文件句柄仅对已有文件有效"),
    ("every gateway gives out tagged handles", "所有网关均已发放带标签的句柄"),
    ("none was heard for {} ms", "{0} ms 内未收到任何 LEADER 的消息"),
    (
        "the last one, on node {}, was silent for {} ms, with bad links to every other node",
        "前一个 LEADER（节点 {0}）无响应 {1} ms，且到其他所有节点的链路均异常",
    ),
    ("the last one, on node {}, was silent for {} ms", "前一个 LEADER（节点 {0}）无响应 {1} ms"),
    ("{} goes to node {}", "{0} 转到节点 {1}"),
    ("nobody held it", "此前无节点持有"),
    ("node {} is gone", "节点 {0} 已失联"),
    ("node {} cannot serve it: {}", "节点 {0} 无法提供服务：{1}"),
    ("node {} reaches fewer others", "节点 {0} 可达的其他节点更少"),
    ("node {} loses packets from or to every other node", "节点 {0} 与其他所有节点之间丢包"),
    ("{} is no longer served here", "{0} 不再由本节点提供服务"),
    ("{} is served here", "{0} 由本节点提供服务"),
    ("metad gave it to another node", "metad 已将其分配给其他节点"),
    ("metad gave it to this node", "metad 已将其分配给本节点"),
    ("gives the lease {} of file {} back", "归还文件 {1} 的租约 {0}"),
    (
        "every complete copy is out of reach from here, and not from elsewhere",
        "本节点无法访问任何完整副本，其他节点可以",
    ),
    ("owner of file {}, lease {}", "成为文件 {0} 的所有者，租约 {1}"),
    ("an operation came in", "收到一个操作"),
    ("extent {}: node {} joins {}", "extent {0}：节点 {1} 加入 {2}"),
    ("extent {}: copies on {}, all complete", "extent {0}：副本位于 {1}，均完整"),
    ("extent {}: copies on {}", "extent {0}：副本位于 {1}"),
    ("epoch {} of lease {}", "租约 {1} 的 epoch {0}"),
    ("no configuration names them", "没有任何配置引用它们"),
    ("it is this node's local address", "这是本节点的本地地址"),
    ("{} copies thrown away, extent {} first", "清除 {0} 个副本，首个为 extent {1}"),
    ("extent {}: {} blocks are damaged", "extent {0}：{1} 个数据块已损坏"),
    ("extent {}: {} blocks are good again, {} are not", "extent {0}：{1} 个数据块已恢复，{2} 个仍损坏"),
    ("they were written", "它们被重新写入"),
    (
        "port 111 of {} is served by this node: mounts need no port options",
        "{0} 的 111 端口由本节点提供服务：挂载时无需端口选项",
    ),
    (
        "{} is registered with the system's rpcbind: mounts need no port options",
        "{0} 已注册到系统的 rpcbind：挂载时无需端口选项",
    ),
    ("mounts of {} need {}: {}", "挂载 {0} 时需要 {1}：{2}"),
    ("nobody else has the port", "该端口无其他进程占用"),
    ("it holds port 111 of all addresses", "它占用所有地址的 111 端口"),
    ("clients cannot ask where NFS and MOUNT are", "客户端无法查询 NFS 与 MOUNT 的端口"),
    ("starts", "启动"),
    ("stops", "停止"),
    ("pid {}, roles {}", "pid {0}，角色 {1}"),
    ("it was told to", "收到停止命令"),
    ("agent works under epoch {}, mode {}", "代理在 epoch {0} 下工作，模式 {1}"),
    ("logged in", "已登录"),
    ("hands the lead over to node {}", "将 leader 移交给节点 {0}"),
    ("refused {}", "拒绝 {0}"),
    ("TLS between coordination servers is demanded", "协调服务器之间强制使用 TLS"),
    ("every node knows it, and none can go back", "所有节点都已支持，且不能再退回"),
    ("node {} is in service again", "节点 {0} 恢复服务"),
    ("node {} is in maintenance", "节点 {0} 进入维护"),
    ("node {} is drained", "节点 {0} 正在迁出"),
    ("node {} is removed", "节点 {0} 已移除"),
    ("the old disk of node {} is retired", "节点 {0} 的旧磁盘已停用"),
    ("the disk of node {} is emptied", "节点 {0} 的磁盘正在清空"),
    ("copies are evened out", "正在均衡副本"),
    ("copies are even", "副本已均衡"),
    ("nothing is left to move", "无需再迁移"),
    ("datastore address {} is removed", "数据存储地址 {0} 已移除"),
    ("datastore address {} is served again", "数据存储地址 {0} 恢复服务"),
    ("datastore {} is changed", "数据存储 {0} 已更改"),
    ("an administrator asked for it, and it was found to be safe", "由管理员发起，经检查可安全执行"),
    ("{} asked to mount \"{}\" and was refused", "{0} 请求挂载 \"{1}\"，被拒绝"),
];

/// A text of the table in Chinese; any other as it is.
pub fn in_chinese(text: &str) -> String {
    translated(TEXTS, text)
}

/// The text in Chinese where a row of the table has it, else as it is. Rows are pairs of an English text with a `{}` at each
/// value and a Chinese one, in which `{0}` is the first value.
pub fn translated(table: &[(&str, &str)], text: &str) -> String {
    let found = table.iter().find_map(|(en, zh)| Some((holes(text, en)?, *zh)));
    let Some((values, zh)) = found else { return text.to_string() };
    let put = |out: String, (at, value): (usize, &&str)| out.replace(&format!("{{{at}}}"), value);
    values.iter().enumerate().fold(zh.to_string(), put)
}

/// Texts at the holes of a pattern, if `text` is made by it.
fn holes<'a>(text: &'a str, pattern: &str) -> Option<Vec<&'a str>> {
    let mut parts = pattern.split("{}");
    let mut rest = text.strip_prefix(parts.next()?)?;
    let (mut out, mut parts) = (Vec::new(), parts.peekable());
    while let Some(part) = parts.next() {
        let at = match (part.is_empty(), parts.peek()) {
            (true, None) => rest.len(),
            (false, None) => rest.len().checked_sub(part.len()).filter(|at| rest.get(*at..) == Some(part))?,
            _ => rest.find(part)?,
        };
        out.push(&rest[..at]);
        rest = &rest[at + part.len()..];
    }
    rest.is_empty().then_some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chinese_is_by_the_table_and_keeps_what_differs() {
        for (en, zh) in [
            ("LEADER of epoch 7", "成为 epoch 7 的 LEADER"),
            ("no longer LEADER of epoch 7", "不再是 epoch 7 的 LEADER"),
            ("10.0.0.9 goes to node 2", "10.0.0.9 转到节点 2"),
            ("extent 3: copies on [1, 2], all complete", "extent 3：副本位于 [1, 2]，均完整"),
            ("extent 3: copies on [1, 2]", "extent 3：副本位于 [1, 2]"),
            ("something of a later release", "something of a later release"),
            ("", ""),
        ] {
            assert_eq!(in_chinese(en), zh, "{en}");
        }
        // Every hole of a row is filled.
        for (en, zh) in TEXTS {
            let count = en.matches("{}").count();
            assert!((0..count).all(|at| zh.contains(&format!("{{{at}}}"))), "{en}");
            let text = en.replace("{}", "x");
            assert_eq!(holes(&text, en).map(|h| h.len()), Some(count), "{en}");
        }
    }
}
