//! Texts for people, in English and Chinese, rendered from typed values.

use crate::action::Action;
use crate::gate::Gate;
use crate::journal::{Outcome, Proof, StepRecord};
use crate::observed::Few;
use crate::state::{Likeness, NotCurrent, StaleSide, State};
use serde::{Deserialize, Serialize};

/// A text in both languages.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Text {
    /// English.
    pub en: String,
    /// Chinese.
    pub zh: String,
}

/// Kinds of events; `journal` and vCenter show their texts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EventCode {
    /// A wanted datastore has another state on a host.
    StateChanged,
    /// A plan was made.
    Plan,
    /// A person confirmed a plan.
    PlanConfirmed,
    /// A person confirmed a learned datastore.
    WantedConfirmed,
    /// A step began.
    StepStarted,
    /// A step's call ended.
    StepEnded,
    /// A gate closed before the step began.
    StepAbandoned,
    /// A later reading proved a step.
    Repaired,
    /// No later reading proved a step.
    NotProved,
    /// An alert began.
    AlertRaised,
    /// An alert ended.
    AlertResolved,
    /// vCenter refused user or password.
    LoginRefused,
    /// A host told of APD or of an NFS server.
    HostEvent,
}

fn text(en: impl Into<String>, zh: impl Into<String>) -> Text {
    Text { en: en.into(), zh: zh.into() }
}

/// The state of a datastore on a host, with what to do where the agent does nothing.
pub fn fault(host: &str, ds: &str, state: &State) -> Text {
    match state {
        State::Ok => text(format!("host {host} has datastore {ds}"), format!("主机 {host} 已挂载数据存储 {ds}")),
        State::Missing => {
            text(format!("host {host} lacks datastore {ds}"), format!("主机 {host} 未挂载数据存储 {ds}"))
        }
        State::Inaccessible { reason } => text(
            format!("datastore {ds} is not accessible on host {host} ({reason}); the host retries by itself, do not unmount it"),
            format!("主机 {host} 上的数据存储 {ds} 不可访问（{reason}）；主机会自行重试，请勿卸载"),
        ),
        State::Pdl => text(
            format!("host {host} lost datastore {ds} for good (PermanentDeviceLoss); close its open files, then mount it again by hand"),
            format!("主机 {host} 永久丢失数据存储 {ds}（PDL）；请先关闭其上打开的文件，再手动重新挂载"),
        ),
        State::WrongIdentity { name, server, path, likeness } => wrong_identity(host, ds, name, server, path, *likeness),
        State::WrongVersion { seen } => text(
            format!("host {host} mounted datastore {ds} as {seen:?} and its peers by another NFS version: their locks do not exclude each other and data can be corrupted; keep virtual machines off it on this host and mount it by one version"),
            format!("主机 {host} 以 {seen:?} 挂载数据存储 {ds}，与其他主机的 NFS 版本不同：锁互不生效，可能损坏数据；请勿在该主机上运行其中的虚拟机，并统一挂载版本"),
        ),
        State::Renamed { seen } => text(
            format!("host {host} has datastore {ds} under the name {seen:?}; free the name {ds:?} and rename it"),
            format!("主机 {host} 上数据存储 {ds} 的名称为 {seen:?}；请释放名称 {ds:?} 后重命名"),
        ),
        State::Readonly => text(
            format!("host {host} mounted datastore {ds} read-only; its peers may write"),
            format!("主机 {host} 以只读方式挂载数据存储 {ds}，其他主机可读写"),
        ),
        State::StaleView { side: StaleSide::VcenterLacks } => text(
            format!("host {host} has mounted datastore {ds} and vCenter does not show it: a stale view"),
            format!("主机 {host} 已挂载数据存储 {ds}，但 vCenter 未显示：视图过期"),
        ),
        State::StaleView { side: StaleSide::HostLacks } => text(
            format!("vCenter shows datastore {ds} on host {host}, whose own mount table lacks it: a stale view"),
            format!("vCenter 显示主机 {host} 有数据存储 {ds}，但主机自身的挂载表中没有：视图过期"),
        ),
        State::Unknown { why } => {
            let (en, zh) = match why {
                NotCurrent::NotConnected => ("not connected to vCenter", "未连接 vCenter"),
                NotCurrent::NotPoweredOn => ("not powered on", "未开机"),
                NotCurrent::Maintenance => ("in maintenance mode", "处于维护模式"),
            };
            text(
                format!("host {host} is {en}: the state of datastore {ds} is not known"),
                format!("主机 {host} {zh}：数据存储 {ds} 的状态未知"),
            )
        }
    }
}

fn wrong_identity(host: &str, ds: &str, name: &str, server: &str, path: &str, likeness: Likeness) -> Text {
    let (en, zh) = match likeness {
        Likeness::Slashes => ("the slashes of the path differ", "路径的斜杠不同"),
        Likeness::ServerSpelling => ("the server is spelled otherwise", "服务器名写法不同"),
        Likeness::OtherServer => ("the server string differs", "服务器地址不同"),
        Likeness::NameOnly => ("only the name is the same", "仅名称相同"),
    };
    text(
        format!("host {host} has {name:?} from {server}:{path} in the place of datastore {ds} ({en}): vSphere takes it for another datastore; move its virtual machines away and mount it with the peers' strings"),
        format!("主机 {host} 上的 {name:?}（{server}:{path}）与数据存储 {ds} 不是同一个（{zh}）：请迁走其中的虚拟机，再按其他主机的服务器和路径重新挂载"),
    )
}

/// A host has too few heartbeat datastores.
pub fn heartbeat_few(host: &str, few: &Few) -> Text {
    let chosen = few.chosen.map_or("fewer".to_string(), |c| c.to_string());
    let (hidden_en, hidden_zh) = if few.hidden {
        (
            "; das.ignoreInsufficientHbDatastore hides the warning in vCenter, the fault is there",
            "；das.ignoreInsufficientHbDatastore 只是隐藏了 vCenter 的警告，故障仍在",
        )
    } else {
        ("", "")
    };
    let number_zh = few.chosen.map_or(String::new(), |c| format!(" {c} "));
    text(
        format!("host {host} has {chosen} vSphere HA heartbeat datastores of {} required{hidden_en}", few.required),
        format!("主机 {host} 的 vSphere HA 检测信号数据存储数目{number_zh}少于要求数目 {}{hidden_zh}", few.required),
    )
}

/// vCenter does not answer.
pub fn unreachable(why: &str) -> Text {
    text(
        format!("vCenter does not answer: {why}; check its address, its certificate and the agent's password"),
        format!("无法连接 vCenter：{why}；请检查地址、证书和密码"),
    )
}

fn action(a: &Action, host: &str, ds: Option<&str>) -> Text {
    let ds = ds.unwrap_or_default();
    match a {
        Action::ResetClient { server, .. } => text(
            format!("close host {host}'s NFS connections to {server}, so that it reconnects"),
            format!("断开主机 {host} 到 {server} 的 NFS 连接，使其重连"),
        ),
        Action::Refresh { .. } => {
            text(format!("refresh the storage of host {host} (for {ds})"), format!("刷新主机 {host} 的存储（{ds}）"))
        }
        Action::Mount { wanted, .. } => text(
            format!("mount datastore {ds} ({}) on host {host}", wanted.identity()),
            format!("在主机 {host} 上挂载数据存储 {ds}（{}）", wanted.identity()),
        ),
        Action::ReconfigureHa { .. } => {
            text(format!("reconfigure host {host} for vSphere HA"), format!("为主机 {host} 重新配置 vSphere HA"))
        }
        Action::Reconnect { .. } => text(
            format!("disconnect host {host} from vCenter and reconnect it (for {ds})"),
            format!("将主机 {host} 与 vCenter 断开并重新连接（{ds}）"),
        ),
    }
}

/// The name of a kind of event.
pub fn event(code: EventCode) -> Text {
    match code {
        EventCode::StateChanged => text("state", "状态"),
        EventCode::Plan => text("plan", "方案"),
        EventCode::PlanConfirmed => text("plan confirmed", "方案已确认"),
        EventCode::WantedConfirmed => text("learned datastore confirmed", "已确认学习到的数据存储"),
        EventCode::StepStarted => text("repair begins", "开始修复"),
        EventCode::StepEnded => text("call ended", "调用结束"),
        EventCode::StepAbandoned => text("repair abandoned: a gate closed", "放弃修复：条件不再满足"),
        EventCode::Repaired => text("repaired, proved by a later reading", "已修复，并经复查证实"),
        EventCode::NotProved => text("not repaired", "未修复"),
        EventCode::AlertRaised => text("alert", "告警"),
        EventCode::AlertResolved => text("alert resolved", "告警解除"),
        EventCode::LoginRefused => text("vCenter refused user or password", "vCenter 拒绝了用户名或密码"),
        EventCode::HostEvent => text("event of a host", "主机事件"),
    }
}

fn joined(a: &Text, b: &Text) -> Text {
    text(format!("{}: {}", a.en, b.en), format!("{}：{}", a.zh, b.zh))
}

/// A kind of event, and the step it is about.
pub fn step(code: EventCode, a: &Action, host: &str, ds: Option<&str>) -> Text {
    joined(&event(code), &action(a, host, ds))
}

/// A kind of event, and the alert it is about.
pub fn alert(code: EventCode, id: &str, what: &Text) -> Text {
    let named = text(format!("{} {id}", event(code).en), format!("{} {id}", event(code).zh));
    joined(&named, what)
}

/// A step of the past and how it came out.
pub fn record(s: &StepRecord) -> Text {
    let code = match s.proof {
        Proof::Repaired => EventCode::Repaired,
        Proof::NotProved => EventCode::NotProved,
        Proof::Abandoned => EventCode::StepAbandoned,
    };
    let t = step(code, &s.action, &s.host_name, s.datastore.as_deref());
    let o = outcome(&s.outcome);
    text(format!("{} ({})", t.en, o.en), format!("{}（{}）", t.zh, o.zh))
}

/// The answer to a call, with advice for some faults.
pub fn outcome(o: &Outcome) -> Text {
    match o {
        Outcome::Done => text("the call was answered", "调用成功返回"),
        Outcome::AlreadyThere => text("it was there already", "已存在"),
        Outcome::NameTaken => text(
            "the name belongs to something else on the host; if vCenter does not show it, `esxcli storage nfs list` on the host does",
            "该名称在主机上已被占用；若 vCenter 中看不到，请在主机上执行 `esxcli storage nfs list` 查看",
        ),
        Outcome::Fault { kind, text: t } => {
            let advice = fault_advice(kind);
            text(format!("{kind}: {t}{}", advice.en), format!("{kind}：{t}{}", advice.zh))
        }
        Outcome::NoAnswer { why } => text(format!("no answer: {why}"), format!("无应答：{why}")),
        Outcome::NotStarted { why } => text(format!("not started: {why}"), format!("未开始：{why}")),
    }
}

fn fault_advice(kind: &str) -> Text {
    match kind {
        "NasConnectionLimitReached" => text("; raise NFS.MaxVolumes on the host", "；请调大主机的 NFS.MaxVolumes"),
        "NoPermissionOnNasVolume" => text(
            "; let the host's VMkernel address mount it on the server",
            "；请在服务器上允许该主机的 VMkernel 地址挂载",
        ),
        "InvalidNetworkResource" | "NetworkInaccessible" | "InaccessibleDatastore" => {
            text("; check the VMkernel interface and the route to the server", "；请检查 VMkernel 接口及到服务器的路由")
        }
        "NoPermission" => text("; see docs/vcenter.md for the roles", "；所需角色见 docs/vcenter.md"),
        _ => Text::default(),
    }
}

/// Why a step is not taken now.
pub fn gate(g: &Gate) -> Text {
    let seconds = |ms: &u64| ms.div_ceil(1_000);
    match g {
        Gate::ModeWatch => text("mode is watch", "当前为 watch 模式"),
        Gate::NeedsPerson => text("a person has to confirm the plan", "需要人工确认方案"),
        Gate::NotLeader => text("this node does not lead metad", "本节点不是 metad LEADER"),
        Gate::OldReading => text("the last reading of vCenter is too old", "vCenter 的读数过旧"),
        Gate::HostNotConnected => text("the host is not connected to vCenter", "主机未连接 vCenter"),
        Gate::HostInMaintenance => text("the host is in maintenance mode", "主机处于维护模式"),
        Gate::HostNotPoweredOn => text("the host is not powered on", "主机未开机"),
        Gate::HostBusy { with } => {
            text(format!("a task is running on the host: {with}"), format!("主机上有任务在运行：{with}"))
        }
        Gate::DatastoreInMaintenance => text("the datastore is in maintenance mode", "数据存储处于维护模式"),
        Gate::NotConfirmed => {
            text("the datastore was learned and nobody confirmed it", "该数据存储为自动学习所得，尚未确认")
        }
        Gate::NotLongEnough { left_ms } => text(
            format!("the fault must last {} s more", seconds(left_ms)),
            format!("故障还需持续 {} 秒", seconds(left_ms)),
        ),
        Gate::MostHostsMiss { missing, of } => text(
            format!("{missing} of {of} hosts miss it: that is an outage of the storage, not of the host"),
            format!("{of} 台主机中有 {missing} 台缺失：这是存储侧的中断，而非主机故障"),
        ),
        Gate::HaFailover { host, state } => text(
            format!("vSphere HA is not settled: host {host} is {state}"),
            format!("vSphere HA 尚未稳定：主机 {host} 为 {state}"),
        ),
        Gate::OurQuorumLost => text("the storage has no quorum", "存储失去法定多数"),
        Gate::OurExportDown => text("the datastore is not served by the storage", "存储未提供该数据存储"),
        Gate::OurAddressUnreachable => text("the datastore's address is not reachable", "数据存储地址不可达"),
        Gate::OurSideUnknown => text("the state of the storage is not known yet", "尚不清楚存储侧的状态"),
        Gate::OurFailover { left_ms } => text(
            format!("the storage failed over recently: {} s more", seconds(left_ms)),
            format!("存储刚发生过切换：还需 {} 秒", seconds(left_ms)),
        ),
        Gate::NoHealthyPeer => text("no other host uses the datastore now", "没有其他主机正在使用该数据存储"),
        Gate::IdentityNotUnique { count } => text(
            format!("vCenter has {count} datastores with these strings"),
            format!("vCenter 中有 {count} 个相同服务器和路径的数据存储"),
        ),
        Gate::NameTaken { by } => text(format!("the name belongs to {by}"), format!("名称已被 {by} 占用")),
        Gate::RemovedByPerson { who } => {
            text(format!("{who} removed it from the host"), format!("{who} 已从主机上移除它"))
        }
        Gate::StepOpen => text("another step is open", "另一步骤尚未结束"),
        Gate::CoolDown { left_ms } => {
            text(format!("cool-down, {} s more", seconds(left_ms)), format!("冷却中，还需 {} 秒", seconds(left_ms)))
        }
        Gate::BudgetSpent { per_hour } => text(
            format!("{per_hour} steps in this hour: the budget is spent"),
            format!("本小时已执行 {per_hour} 步，达到上限"),
        ),
        Gate::AttemptsUsedUp { count } => {
            text(format!("{count} attempts failed: a person has to look"), format!("已失败 {count} 次，需要人工处理"))
        }
        Gate::RungNotAllowed => text("this step is not allowed by the configuration", "配置未允许该步骤"),
        Gate::NoPrivilege { privilege } => {
            text(format!("the agent's user lacks {privilege}"), format!("账号缺少权限 {privilege}"))
        }
    }
}
