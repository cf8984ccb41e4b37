//! Events as people read them.

use super::{in_chinese, Event, Subject, Text};

impl Event {
    /// The part of the node that it is about.
    pub fn subject(&self) -> Subject {
        match self {
            Event::Looking { .. }
            | Event::FollowsLeader { .. }
            | Event::LeadsEpoch { .. }
            | Event::LeadHandedOver { .. }
            | Event::PeerRefused { .. }
            | Event::QuorumTlsDemanded {}
            | Event::EmptyServerWaits {} => Subject::Coordination,
            Event::MetadLeads { .. }
            | Event::MetadDeposed { .. }
            | Event::ZnodesClosed { .. }
            | Event::HandlesTagged {} => Subject::Metad,
            Event::MetadLeaderHeard { .. } => Subject::Gateway,
            Event::AddressBound { .. }
            | Event::AddressServed { .. }
            | Event::AddressLeft { .. }
            | Event::AddressDuplicate { .. }
            | Event::Portmapper { .. } => Subject::Address,
            Event::LeaseTaken { .. } | Event::LeaseReturned { .. } => Subject::Lease,
            Event::CopyJoins { .. }
            | Event::CopiesChanged { .. }
            | Event::CopiesDropped { .. }
            | Event::CopiesWentBack { .. }
            | Event::BlocksChecked { .. } => Subject::Copies,
            Event::LocksFreed { .. } => Subject::Locks,
            Event::MountRefused { .. } => Subject::Mount,
            Event::NodeStarts { .. } | Event::NodeStops {} | Event::DiskFull { .. } | Event::DiskHasRoom { .. } => {
                Subject::Node
            }
            Event::JournalVersion { .. } | Event::Administration { .. } | Event::ContinuesAlone { .. } => {
                Subject::Cluster
            }
            Event::AgentWorks { .. } | Event::AgentLoggedIn { .. } | Event::Agent { .. } => Subject::Vcenter,
        }
    }

    /// The change, as a line for people.
    pub fn what(&self) -> Text {
        let by_table = |en: &str| Text::new(en, in_chinese(en));
        match self {
            Event::Looking { .. } => Text::new("looking for a leader", "正在寻找 leader"),
            Event::FollowsLeader { leader, epoch, .. } => Text::new(
                format!("follows node {leader} in epoch {epoch}"),
                format!("在 epoch {epoch} 中跟随节点 {leader}"),
            ),
            Event::LeadsEpoch { epoch, .. } => {
                Text::new(format!("leads epoch {epoch}"), format!("成为 epoch {epoch} 的 leader"))
            }
            Event::LeadHandedOver { to, .. } => {
                Text::new(format!("hands the lead over to node {to}"), format!("将 leader 移交给节点 {to}"))
            }
            Event::PeerRefused { peer, .. } => Text::new(format!("refused {peer}"), format!("拒绝 {peer}")),
            Event::QuorumTlsDemanded {} => {
                Text::new("TLS between coordination servers is demanded", "协调服务器之间强制使用 TLS")
            }
            Event::EmptyServerWaits {} => Text::new(
                "coordination's folder is empty, and nothing says that the cluster is new: this server does not vote",
                "协调服务的目录为空，且没有迹象表明集群是新建的：本服务器不参与投票",
            ),
            Event::MetadLeads { epoch, .. } => {
                Text::new(format!("LEADER of epoch {epoch}"), format!("成为 epoch {epoch} 的 LEADER"))
            }
            Event::MetadDeposed { epoch, .. } => {
                Text::new(format!("no longer LEADER of epoch {epoch}"), format!("不再是 epoch {epoch} 的 LEADER"))
            }
            Event::MetadLeaderHeard { node, epoch } => Text::new(
                format!("metad's LEADER is node {node} (epoch {epoch})"),
                format!("metad 的 LEADER 是节点 {node}（epoch {epoch}）"),
            ),
            Event::ZnodesClosed { .. } => {
                Text::new("metad's znodes belong to the cluster's user alone", "metad 的 znode 仅供集群用户访问")
            }
            Event::HandlesTagged {} => Text::new(
                "file handles without a tag count for the files that exist only",
                "无标签的文件句柄仅对已有文件有效",
            ),
            Event::JournalVersion { version } => {
                Text::new(format!("metad's journal has version {version}"), format!("metad 日志的格式版本为 {version}"))
            }
            Event::AddressBound { address, node, .. } => {
                Text::new(format!("{address} goes to node {node}"), format!("{address} 转到节点 {node}"))
            }
            Event::AddressServed { address, .. } => {
                Text::new(format!("{address} is served here"), format!("{address} 由本节点提供服务"))
            }
            Event::AddressLeft { address } => {
                Text::new(format!("{address} is no longer served here"), format!("{address} 不再由本节点提供服务"))
            }
            Event::AddressDuplicate { address, mac } => Text::new(
                format!("another device, {mac}, answers for {address}"),
                format!("其他设备（{mac}）应答了 {address} 的 ARP"),
            ),
            Event::Portmapper { what, .. } | Event::BlocksChecked { what, .. } => by_table(what),
            Event::LeaseTaken { file, lease } => Text::new(
                format!("owner of file {file}, lease {lease}"),
                format!("成为文件 {file} 的所有者，租约 {lease}"),
            ),
            Event::LeaseReturned { file, lease } => Text::new(
                format!("gives the lease {lease} of file {file} back"),
                format!("归还文件 {file} 的租约 {lease}"),
            ),
            Event::CopyJoins { extent, node, nodes, .. } => Text::new(
                format!("extent {extent}: node {node} joins {nodes:?}"),
                format!("extent {extent}：节点 {node} 加入 {nodes:?}"),
            ),
            Event::CopiesChanged { extent, nodes, joined: true, .. } => Text::new(
                format!("extent {extent}: copies on {nodes:?}, all complete"),
                format!("extent {extent}：副本位于 {nodes:?}，均完整"),
            ),
            Event::CopiesChanged { extent, nodes, .. } => Text::new(
                format!("extent {extent}: copies on {nodes:?}"),
                format!("extent {extent}：副本位于 {nodes:?}"),
            ),
            Event::CopiesDropped { count, extent } => Text::new(
                format!("{count} copies thrown away, extent {extent} first"),
                format!("清除 {count} 个副本，首个为 extent {extent}"),
            ),
            Event::CopiesWentBack { count } => Text::new(
                format!(
                    "the storage of this node's copies went back in time: {count} copies that were complete are rebuilt from \
                     others, and an extent without another complete copy holds"
                ),
                format!(
                    "本节点副本所在的存储回退到了较早的状态：{count} 个原本完整的副本将从其他副本重建，没有其他完整副本的 extent 暂停服务"
                ),
            ),
            Event::LocksFreed { client } => {
                Text::new(format!("the locks of {client} are free"), format!("{client} 的锁已释放"))
            }
            Event::MountRefused { client, path, untold, .. } => {
                let (more, more_zh) = match untold {
                    0 => Default::default(),
                    n => (format!(" ({n} more before that)"), format!("（此前还有 {n} 次）")),
                };
                Text::new(
                    format!("{client} asked to mount \"{path}\" and was refused{more}"),
                    format!("{client} 请求挂载 \"{path}\"，被拒绝{more_zh}"),
                )
            }
            Event::NodeStarts { .. } => Text::new("starts", "启动"),
            Event::NodeStops {} => Text::new("stops", "停止"),
            Event::DiskFull { .. } => Text::new("the disk is full: new data is refused", "磁盘已满：拒绝写入新数据"),
            Event::DiskHasRoom { .. } => Text::new("the disk has room again", "磁盘已有可用空间"),
            Event::AgentWorks { epoch, mode, .. } => Text::new(
                format!("agent works under epoch {epoch}, mode {mode}"),
                format!("代理在 epoch {epoch} 下工作，模式 {mode}"),
            ),
            Event::AgentLoggedIn { .. } => Text::new("logged in", "已登录"),
            Event::Agent { what, .. } | Event::Administration { what, .. } => what.clone(),
            Event::ContinuesAlone { node, others } => Text::new(
                format!("node {node} continues alone, without nodes {others}"),
                format!("节点 {node} 独自继续运行，不再有节点 {others}"),
            ),
        }
    }

    /// The reason, as text; empty where there is none.
    pub fn why(&self) -> Text {
        let by_table = |en: &str| Text::new(en, in_chinese(en));
        match self {
            Event::Looking { reason, .. }
            | Event::FollowsLeader { reason, .. }
            | Event::LeadsEpoch { reason, .. }
            | Event::LeadHandedOver { reason, .. }
            | Event::PeerRefused { reason, .. }
            | Event::MetadLeads { reason, .. }
            | Event::MetadDeposed { reason, .. }
            | Event::AddressBound { reason, .. }
            | Event::Portmapper { reason, .. }
            | Event::BlocksChecked { reason, .. }
            | Event::MountRefused { reason, .. }
            | Event::AgentWorks { reason, .. }
            | Event::AgentLoggedIn { reason }
            | Event::Agent { reason, .. }
            | Event::Administration { reason, .. } => by_table(reason),
            Event::QuorumTlsDemanded {} => {
                Text::new("every node knows it, and none can go back", "所有节点都已支持，且不能再退回")
            }
            Event::EmptyServerWaits {} => Text::new(
                "its disk may have been replaced; a leader brings it up to date first",
                "其磁盘可能已被更换；先由 leader 将其同步到最新",
            ),
            Event::MetadLeaderHeard { .. } => Text::new("it answered", "已应答"),
            Event::ZnodesClosed { changed } => {
                Text::new(format!("{changed} access lists changed"), format!("已修改 {changed} 个访问控制列表"))
            }
            Event::HandlesTagged {} => {
                Text::new("every gateway gives out tagged handles", "所有网关均已发放带标签的句柄")
            }
            Event::JournalVersion { .. } => Text::new(
                "an administrator finalized the upgrade, and every node reads it",
                "管理员已完成升级，所有节点均可读取",
            ),
            Event::AddressServed { local: true, .. } => {
                Text::new("it is this node's local address", "这是本节点的本地地址")
            }
            Event::AddressServed { .. } => Text::new("metad gave it to this node", "metad 已将其分配给本节点"),
            Event::AddressLeft { .. } => Text::new("metad gave it to another node", "metad 已将其分配给其他节点"),
            Event::AddressDuplicate { .. } => Text::new("its ARP frames", "收到其 ARP 报文"),
            Event::LeaseTaken { .. } => Text::new("an operation came in", "收到一个操作"),
            Event::LeaseReturned { .. } => Text::new(
                "every complete copy is out of reach from here, and not from elsewhere",
                "本节点无法访问任何完整副本，其他节点可以",
            ),
            Event::CopyJoins { lease, epoch, .. } | Event::CopiesChanged { lease, epoch, .. } => {
                Text::new(format!("epoch {epoch} of lease {lease}"), format!("租约 {lease} 的 epoch {epoch}"))
            }
            Event::CopiesDropped { .. } => Text::new("no configuration names them", "没有任何配置引用它们"),
            Event::CopiesWentBack { .. } => Text::new(
                "it has fewer starts or a shorter journal than metad noted",
                "其启动次数少于 metad 的记录，或其日志短于 metad 的记录",
            ),
            Event::LocksFreed { .. } => Text::new("it says that it has started again", "该客户端报告已重新启动"),
            Event::NodeStarts { pid, roles } => {
                Text::new(format!("pid {pid}, roles {roles}"), format!("pid {pid}，角色 {roles}"))
            }
            Event::NodeStops {} => Text::new("it was told to", "收到停止命令"),
            Event::DiskFull { folder, free_mib, reserve_mib } => Text::new(
                format!("{free_mib} MiB are free in {folder}, {reserve_mib} MiB are kept for the system"),
                format!("{folder} 剩余 {free_mib} MiB，其中 {reserve_mib} MiB 留给系统"),
            ),
            Event::DiskHasRoom { folder, free_mib } => {
                Text::new(format!("{free_mib} MiB are free in {folder}"), format!("{folder} 剩余 {free_mib} MiB"))
            }
            Event::ContinuesAlone { .. } => Text::new(
                "an administrator ordered it (force-single): the majority is gone for good",
                "由管理员执行（force-single）：多数节点已永久丢失",
            ),
        }
    }
}
