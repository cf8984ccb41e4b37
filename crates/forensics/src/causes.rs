//! Causes that a line states: a row each, with what to do. A row holds what ZooKeeper, Java or the operating system write,
//! in an entry's message or in the exception behind it.

use crate::needles::Needles;
use crate::report::Lang;
use std::sync::LazyLock;

/// A cause that lines state, with its words.
pub struct Row {
    /// As JSON has it.
    pub kind: &'static str,
    /// Any of these stands in the line.
    any: &'static [&'static str],
    /// Its name in English.
    pub en: &'static str,
    /// Its name in Chinese.
    pub zh: &'static str,
    /// Advice in English: the step to take when a log states this cause.
    pub do_en: &'static str,
    /// The advice in Chinese.
    pub do_zh: &'static str,
}

/// A row's number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Stated(u8);

impl Stated {
    /// The row of that kind, which there is.
    pub(crate) fn of_kind(kind: &str) -> Stated {
        Stated(ROWS.iter().position(|r| r.kind == kind).unwrap_or(0) as u8)
    }
    /// Whether the condition keeps a server, and not only one client, from its work.
    pub(crate) fn matters(self) -> bool {
        !["too many connections", "request too large", "other program or ensemble"].contains(&self.row().kind)
    }
    /// Whether the condition ends the server's work.
    pub(crate) fn stops(self) -> bool {
        STOPS.contains(&self.row().kind)
    }
    /// Whether the line only says that the process, or a part of it, ended, without a reason.
    pub(crate) fn says_no_more(self) -> bool {
        [FATAL, PART_ENDED].contains(&self.row().kind)
    }
    /// The row of the table that this cause is.
    pub fn row(self) -> &'static Row {
        &ROWS[usize::from(self.0)]
    }
    /// The cause's name, as text.
    pub fn name(self, lang: Lang) -> &'static str {
        let row = self.row();
        if lang == Lang::English {
            row.en
        } else {
            row.zh
        }
    }
    /// The advice to a person, which may be empty.
    pub fn advice(self, lang: Lang) -> &'static str {
        let row = self.row();
        if lang == Lang::English {
            row.do_en
        } else {
            row.do_zh
        }
    }
}

/// Read from failed connections to peers, and not in any one line.
pub const PEERS_REFUSE: &str = "peers refuse";
/// Read from connections to peers that got no answer, and not in any one line.
pub const PEERS_SILENT: &str = "peers do not answer";
/// Causes that end a server's work: they say why its leadership ended. The last two say so, and not why.
const STOPS: [&str; 7] =
    ["out of memory", "disk full", "disk read-only", "disk error", "too many open files", PART_ENDED, FATAL];
const FATAL: &str = "fatal error";
const PART_ENDED: &str = "part ended";
/// A leader gave a follower up that acknowledged nothing.
pub(crate) const NOT_ACKNOWLEDGED: &str = "transaction timeout";

/// The first row that fits counts: what is more exact stands first.
pub const ROWS: &[Row] = &[
    Row {
        kind: "out of memory",
        any: &["OutOfMemoryError", "GC overhead limit exceeded"],
        en: "the process ran out of memory",
        zh: "进程内存耗尽",
        do_en: "raise -Xmx (and the container's limit above it), then look for what grew: number of znodes, watches, size of requests",
        do_zh: "增大 -Xmx（容器内存上限须更大），再检查增长来源：znode 数、watch 数、请求大小",
    },
    Row {
        kind: "disk full",
        any: &["No space left on device", "Disk quota exceeded", "There is not enough space on the disk"],
        en: "the disk is full",
        zh: "磁盘已满",
        do_en: "free space on the disks of dataDir and dataLogDir; turn on autopurge.purgeInterval; do not delete the newest snapshot or log by hand",
        do_zh: "清理 dataDir 与 dataLogDir 所在磁盘；启用 autopurge.purgeInterval；不要手工删除最新的快照或日志",
    },
    Row {
        kind: "disk read-only",
        any: &["Read-only file system"],
        en: "the file system is read-only",
        zh: "文件系统只读",
        do_en: "look for I/O errors in the kernel's log; repair and remount the file system before the server starts again",
        do_zh: "检查内核日志中的 I/O 错误；修复并重新挂载文件系统后再启动",
    },
    Row {
        kind: "disk error",
        any: &["Input/output error", "Structure needs cleaning", "Stale file handle"],
        en: "the disk reports errors",
        zh: "磁盘读写出错",
        do_en: "look for errors of the device in the kernel's log, and replace it; the other servers hold the data",
        do_zh: "检查内核日志中该设备的错误并更换；其余节点仍保有数据",
    },
    Row {
        kind: "too many open files",
        any: &["Too many open files"],
        en: "the process has too many files and connections open",
        zh: "打开的文件和连接过多",
        do_en: "raise the limit of open files (LimitNOFILE), and look for clients that do not close their connections",
        do_zh: "提高打开文件数上限（LimitNOFILE），并检查不关闭连接的客户端",
    },
    Row {
        kind: "no permission",
        any: &["Permission denied", "AccessDeniedException"],
        en: "a file or port is not permitted to the process",
        zh: "进程无权访问文件或端口",
        do_en: "give dataDir and dataLogDir to the user that the server runs as (a start by root leaves files of root)",
        do_zh: "将 dataDir 和 dataLogDir 的属主改为运行用户（曾以 root 启动会留下 root 文件）",
    },
    Row {
        kind: "id used twice",
        any: &["request from a server with our own ID", "We got a connection request from a server with our own"],
        en: "another server uses the same id",
        zh: "另一台服务器使用了相同的 id",
        do_en: "give each server its own number in dataDir/myid, the N of its server.N line; look for a copied machine",
        do_zh: "每台服务器的 dataDir/myid 必须唯一并与 server.N 对应；检查是否有克隆的机器",
    },
    Row {
        kind: "id not in the list",
        any: &["not in the peer list", "not in the configuration", "Ignoring notification for non-cluster member", "Ignoring notification from member", "Invalid server id", "myid file is missing", "serverid null is not a number"],
        en: "a server's id is not in the list of servers",
        zh: "服务器 id 不在成员列表中",
        do_en: "compare dataDir/myid with the server.N lines of every server; they must be the same everywhere",
        do_zh: "核对 dataDir/myid 与各节点的 server.N 配置，所有节点必须一致",
    },
    Row {
        kind: "address not local",
        any: &["Cannot assign requested address", "Can't assign requested address"],
        en: "its own address is not on this machine",
        zh: "自身地址不在本机上",
        do_en: "the server's own server.N line must name an address of this machine; behind NAT or in a container set quorumListenOnAllIPs=true",
        do_zh: "本机的 server.N 必须是本机地址；在 NAT 或容器中可设 quorumListenOnAllIPs=true",
    },
    Row {
        kind: "port in use",
        any: &["Address already in use", "EADDRINUSE"],
        en: "a port is already in use",
        zh: "端口已被占用",
        do_en: "find the process with `ss -ltnp` on ports 2181, 2888 and 3888 (often a second instance), and stop it or change the port",
        do_zh: "用 `ss -ltnp` 查找占用 2181、2888、3888 的进程（常为重复启动的实例），停止它或修改端口",
    },
    Row {
        kind: "cannot take part in elections",
        any: &["won't be able to participate", "will not be able to participate", "As I'm leaving the listener thread", "Leaving listener thread for address"],
        en: "it has stopped listening on its election port and takes part in no election",
        zh: "选举端口停止监听，无法参与选举",
        do_en: "the lines before say why it could not listen; mend that and restart the server: it does not recover by itself",
        do_zh: "根据之前的日志解决监听失败的原因并重启该节点，它不会自行恢复",
    },
    Row {
        kind: "names do not resolve",
        any: &["UnknownHostException", "Failed to resolve address", "Failed resolve address", "Name or service not known", "Temporary failure in name resolution", "UnresolvedAddressException", "Unresolved address", "nodename nor servname"],
        en: "server names do not resolve",
        zh: "服务器名称无法解析",
        do_en: "check each server.N name on this machine (`getent hosts NAME`); in Kubernetes publishNotReadyAddresses must be set",
        do_zh: "在本机检查每个 server.N 名称（`getent hosts NAME`）；Kubernetes 中须设置 publishNotReadyAddresses",
    },
    Row {
        kind: PEERS_REFUSE,
        any: &[],
        en: "nobody listens at its peers' election ports: connections are refused",
        zh: "对端选举端口无人监听，连接被拒绝",
        do_en: "see whether those servers run (`systemctl status zookeeper`) and listen at the address in their server.N line (`ss -ltn`, port 3888); a firewall that rejects looks the same",
        do_zh: "检查这些服务器是否在运行，并在 server.N 的地址上监听（`ss -ltn`，端口 3888）；拒绝连接的防火墙表现相同",
    },
    Row {
        kind: PEERS_SILENT,
        any: &[],
        en: "its peers' election ports do not answer: connections time out",
        zh: "对端选举端口无响应，连接超时",
        do_en: "check the route to those servers, and firewalls that drop packets to port 3888; then whether the machines run",
        do_zh: "检查到这些服务器的路由，以及丢弃 3888 端口数据包的防火墙；再检查机器是否在运行",
    },
    Row {
        kind: "wrong epoch",
        any: &["less than accepted epoch", "is older than the last zxid", "less than the current epoch", "is less than our accepted epoch", "accepted epoch, ", "has seen a newer epoch"],
        en: "the epoch of its history does not fit",
        zh: "历史 epoch 不一致",
        do_en: "keep a copy of version-2, then move that server's version-2 aside and let it join empty, but only while the others have a quorum",
        do_zh: "先备份 version-2；仅在其余节点有多数派时，将该节点的 version-2 移走，使其以空数据重新加入",
    },
    Row {
        kind: "database damaged",
        any: &["CRC check failed", "CRC corruption", "Unable to load database on disk", "No snapshot found, but there are log entries", "Snapshot corrupted", "Error while loading snapshot", "Failed to load database", "Invalid magic number", "Unable to read the database"],
        en: "its snapshot or log is damaged",
        zh: "快照或日志已损坏",
        do_en: "keep a copy of version-2, then move that server's version-2 aside and let it join empty, but only while the others have a quorum",
        do_zh: "先备份 version-2；仅在其余节点有多数派时，将该节点的 version-2 移走，使其以空数据重新加入",
    },
    Row {
        kind: "TLS",
        any: &["SSLHandshakeException", "SSLException", "PKIX path", "NotSslRecordException", "not an SSL/TLS record", "CertificateExpired", "CertificateException", "Unsecured connection attempt", "plaintext connection?"],
        en: "TLS between the servers, or with a client, fails",
        zh: "TLS 握手失败",
        do_en: "compare sslQuorum and the key stores of all servers, and the dates and names of the certificates",
        do_zh: "核对所有节点的 sslQuorum 与密钥库，以及证书的有效期和名称",
    },
    Row {
        kind: "SASL",
        any: &["SaslException", "LoginException", "KrbException", "SASL authentication", "failed to authenticate using SASL", "GSSException", "Client failed to SASL authenticate"],
        en: "SASL authentication fails",
        zh: "SASL 认证失败",
        do_en: "compare the JAAS files and quorum.auth settings of all servers; with Kerberos the key tabs, names and clocks",
        do_zh: "核对所有节点的 JAAS 文件和 quorum.auth 设置；使用 Kerberos 时核对 keytab、主机名与时钟",
    },
    Row {
        kind: "other program or ensemble",
        any: &["Unreasonable length", "Unreasonable buffer length", "Unrecognized protocol version", "Got unrecognized protocol version", "Invalid quorum address", "is not a valid election"],
        en: "something that is no server of this ensemble talks to its port",
        zh: "非本集群的程序连接了其端口",
        do_en: "find the peer by its address (a port scanner, a health check, another ensemble), and keep it off ports 2888 and 3888",
        do_zh: "根据地址找到对端（端口扫描、健康检查或其他集群），禁止其访问 2888 和 3888",
    },
    Row {
        kind: "request too large",
        any: &["Len error", "Packet len", "is out of range"],
        en: "a request or answer is larger than jute.maxbuffer",
        zh: "请求或应答超过 jute.maxbuffer",
        do_en: "find the client by its address; raise jute.maxbuffer on all servers and clients alike only if such sizes are meant",
        do_zh: "根据地址找到客户端；确需如此大的数据时，在所有服务器和客户端上同时增大 jute.maxbuffer",
    },
    Row {
        kind: "too many connections",
        any: &["Too many connections from", "Too many connections max allowed", "Connection limit"],
        en: "clients have too many connections",
        zh: "客户端连接数过多",
        do_en: "find the client by its address and mend its leak; or raise maxClientCnxns",
        do_zh: "根据地址找到客户端并修复连接泄漏，或增大 maxClientCnxns",
    },
    Row {
        kind: "zxid rolled over",
        any: &["lower 32 bits have rolled over", "XidRolloverException", "Zxid rollover"],
        en: "the counter of transactions of this epoch was full; the leader steps down to begin a new epoch",
        zh: "本 epoch 的事务计数已用尽，leader 主动退出以开始新 epoch",
        do_en: "nothing is broken; where writes are so many that it happens often, hand leadership over at a quiet time",
        do_zh: "属正常行为；若写入量大而频繁发生，可在空闲时主动切换 leader",
    },
    Row {
        kind: "initLimit",
        any: &["Timeout while waiting for epoch", "Waiting for a quorum of followers, only synced with"],
        en: "the elected leader's followers did not join it within initLimit",
        zh: "follower 未能在 initLimit 内加入当选的 leader",
        do_en: "check port 2888 between the servers; with a large database raise initLimit (ticks) above the time that a snapshot takes",
        do_zh: "检查节点间的 2888 端口；数据量大时将 initLimit 增大到超过传输快照所需时间",
    },
    Row {
        kind: NOT_ACKNOWLEDGED,
        any: &["Closing connection to peer due to transaction timeout"],
        en: "a follower did not acknowledge a proposal in time",
        zh: "follower 未及时确认提案",
        do_en: "look at that follower's disk (fsync warnings) and pauses; give dataLogDir a disk of its own",
        do_zh: "检查该 follower 的磁盘（fsync 告警）与停顿；dataLogDir 使用独立磁盘",
    },
    Row {
        kind: "disk too slow",
        any: &["Too busy to snap"],
        en: "the disk is too slow for snapshots beside the log",
        zh: "磁盘过慢，无法及时写快照",
        do_en: "give dataLogDir a disk of its own, and look for what else writes there",
        do_zh: "dataLogDir 使用独立磁盘，并检查其他写入者",
    },
    Row {
        kind: "network unreachable",
        any: &["Network is unreachable", "No route to host", "NoRouteToHostException"],
        en: "the network to a peer is unreachable",
        zh: "到对端的网络不可达",
        do_en: "check interface, route and ARP towards that address on this machine at that time (switch, bond, cable)",
        do_zh: "检查本机当时到该地址的网卡、路由和 ARP（交换机、bond、网线）",
    },
    Row {
        kind: "connection timed out",
        any: &["Connection timed out", "connection timed out"],
        en: "the kernel gave a connection up: no packet was acknowledged",
        zh: "内核放弃了连接：数据包一直未被确认",
        do_en: "look for lost packets or a firewall that forgets connections between the two machines",
        do_zh: "检查两台机器之间是否丢包，或防火墙丢弃了连接状态",
    },
    Row {
        kind: PART_ENDED,
        any: &["Severe unrecoverable error"],
        en: "a part of the server ended after an error, and the server may serve no longer",
        zh: "服务器的一个组件因错误退出，可能已停止服务",
        do_en: "the lines around it state the error; restart the server if it does not serve",
        do_zh: "错误原因见其前后的日志；若该节点不再服务，请重启",
    },
    Row {
        kind: FATAL,
        any: &["Exiting JVM with code", "Unexpected exception, exiting abnormally"],
        en: "the process ended itself after an error",
        zh: "进程因错误自行退出",
        do_en: "the lines around it state the error",
        do_zh: "错误原因见其前后的日志",
    },
];

/// Lines that come by the thousand and state nothing here.
const IDLE: &[&str] = &[
    "ZooKeeperServer not running",
    "Unable to read additional data",
    "EndOfStreamException",
    "Read timed out",
    "Socket closed",
    "Connection refused",
    "EOFException",
    "Connection reset",
    "Broken pipe",
    "Exception causing close of session",
    "Exiting JVM with code 0",
];

static INDEX: LazyLock<Needles> =
    LazyLock::new(|| Needles::new(ROWS.iter().enumerate().flat_map(|(at, r)| r.any.iter().map(move |a| (at, *a)))));
static IDLE_INDEX: LazyLock<Needles> = LazyLock::new(|| Needles::new(IDLE.iter().map(|i| (0, *i))));

/// The cause that a line states, if it states one.
pub fn stated(line: &str) -> Option<Stated> {
    let row = INDEX.least(line)?;
    (!IDLE_INDEX.any(line)).then_some(Stated(row as u8))
}

/// Whether a line behind an entry may state something: an exception's.
pub fn may_state(line: &str) -> bool {
    line.contains("Exception") || line.contains("Error") || line.starts_with("Caused by")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A line that was written, or that the sources of 3.4 to 3.9 and of Java write, for each kind.
    #[test]
    fn lines_that_state_causes() {
        let lines = [
            ("java.net.UnknownHostException: zk2.site: Name or service not known", "names do not resolve"),
            ("Failed to resolve address: zk2.site", "names do not resolve"),
            ("java.net.BindException: Cannot assign requested address (Bind failed)", "address not local"),
            ("As I'm leaving the listener thread after 3 errors. I won't be able to participate in leader election any longer: 10.0.10.71/10.0.10.71:3888", "cannot take part in elections"),
            ("java.io.IOException: Leaders epoch, 3 is less than accepted epoch, 5", "wrong epoch"),
            ("java.io.IOException: The current epoch, 4, is older than the last zxid, 21474836480", "wrong epoch"),
            ("java.io.IOException: CRC check failed", "database damaged"),
            ("java.io.IOException: No snapshot found, but there are log entries. Something is broken!", "database damaged"),
            ("javax.security.sasl.SaslException: SASL authentication failed", "SASL"),
            ("java.lang.InterruptedException: Timeout while waiting for epoch to be acked by quorum", "initLimit"),
            ("javax.net.ssl.SSLHandshakeException: PKIX path building failed", "TLS"),
            ("java.io.IOException: Unreasonable length = 1195725856", "other program or ensemble"),
            ("We got a connection request from a server with our own ID. This should be either a configuration error, or a bug.", "id used twice"),
            ("java.lang.RuntimeException: My id 4 not in the peer list", "id not in the list"),
            ("java.io.IOException: No space left on device", "disk full"),
            ("java.io.FileNotFoundException: /data/version-2/log.1 (Read-only file system)", "disk read-only"),
            ("java.lang.OutOfMemoryError: Java heap space", "out of memory"),
            ("java.net.BindException: Address already in use", "port in use"),
            ("Too many connections from /10.0.0.9 - max is 60", "too many connections"),
            ("Error accepting new connection: Too many connections max allowed is 60", "too many connections"),
            ("java.io.IOException: Len error 4194310", "request too large"),
            ("Shutdown called. For the reason zxid lower 32 bits have rolled over, forcing re-election, and therefore new epoch start", "zxid rolled over"),
            ("Closing connection to peer due to transaction timeout.", "transaction timeout"),
            ("Too busy to snap, skipping", "disk too slow"),
            ("java.net.ConnectException: Network is unreachable (connect failed)", "network unreachable"),
            ("java.net.SocketException: Connection timed out (Read failed)", "connection timed out"),
            ("java.io.IOException: Input/output error", "disk error"),
            ("java.io.IOException: Too many open files", "too many open files"),
            ("java.io.FileNotFoundException: /data/version-2/log.1 (Permission denied)", "no permission"),
            ("Severe unrecoverable error, from thread : SyncThread:1", PART_ENDED),
            ("Unexpected exception, exiting abnormally", FATAL),
        ];
        for (line, kind) in lines {
            assert_eq!(stated(line).map(|s| s.row().kind), Some(kind), "{line}");
        }
        for row in ROWS.iter().filter(|r| !r.any.is_empty()) {
            assert!(lines.iter().any(|l| l.1 == row.kind), "{} has no line", row.kind);
        }
        for nothing in [
            "java.io.IOException: ZooKeeperServer not running",
            "java.net.SocketTimeoutException: Read timed out",
            // Each start of Apache's writes it.
            "maxCnxns is not configured, using default value 0.",
            "LOOKING",
        ] {
            assert_eq!(stated(nothing), None);
        }
        // Nothing destroys what may be the last copy.
        for row in ROWS {
            assert!(
                !row.do_en.contains("rm ")
                    && (!row.do_en.contains("move")
                        || row.do_en.contains("only while the others have a quorum")
                        || !row.do_en.contains("version-2")),
                "{}",
                row.kind
            );
            assert!(!row.do_zh.is_empty() && !row.zh.is_empty());
        }
    }
}
