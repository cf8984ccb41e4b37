//! Words of the pages, in both languages. A text cannot lack one: the type has both.

use trivet_observe::language::Text;

macro_rules! texts {
    ($($name:ident: $en:literal, $zh:literal;)*) => {
        $(pub const $name: Text = Text { en: $en, zh: $zh };)*
        #[cfg(test)]
        pub const EVERY: &[(&str, Text)] = &[$((stringify!($name), $name)),*];
    };
}

texts! {
    OVERVIEW: "Overview", "概览";
    INCIDENTS: "Incidents", "事件";
    ALERTS: "Alerts", "告警";
    NETWORK: "Network", "网络";
    NODES: "Nodes", "节点";
    DATASTORES: "Datastores", "数据存储";
    ACTIVITY: "Activity", "活动";
    SETTINGS: "Settings", "设置";
    PAGES: "Pages", "页面";
    SKIP: "Skip to the content", "跳到正文";
    CLUSTER: "cluster", "集群";
    SEEN_FROM: "seen from node", "视角：节点";
    OTHER_LANGUAGE: "中文", "English";
    SIGN_IN: "Sign in", "登录";
    SIGN_OUT: "Sign out", "退出";
    NAME: "Name", "用户名";
    PASSWORD: "Password", "密码";
    SIGN_IN_FAILED: "Name or password is wrong, or too many attempts were made: wait a minute.", "用户名或密码错误，或尝试次数过多：请一分钟后再试。";
    COORDINATION: "Coordination", "协调服务";
    NO_LEADER: "no leader", "无 leader";
    LEADER: "Leader", "Leader";
    EPOCH: "epoch", "epoch";
    VOTERS_SERVE: "voters serve", "个投票节点在服务";
    OF: "of", "/";
    SERVED: "served", "已提供服务";
    ADDRESSES: "Datastore addresses", "数据存储地址";
    COPIES: "Copies", "副本";
    COPIES_WHOLE: "all there", "完整";
    MISSING: "missing", "缺失";
    LAST_COPY: "with one copy left", "仅剩一个副本";
    RECOVERING: "being rebuilt", "正在重建";
    CAPACITY: "Free space", "剩余空间";
    CLIENTS: "NFS clients", "NFS 客户端";
    CONNECTED: "connected", "已连接";
    RIBBON: "Leadership and quorum", "leader 与法定多数";
    LAST_HOUR: "Hour", "1 小时";
    LAST_DAY: "Day", "24 小时";
    LAST_MONTH: "Month", "30 天";
    CHART_CALLS: "NFS calls per second", "每秒 NFS 调用";
    CHART_P99: "NFS, 99 of 100 within", "NFS 时延 99 分位";
    CHART_READ: "NFS data read", "NFS 读取速率";
    CHART_WRITE: "NFS data written", "NFS 写入速率";
    CHART_LOSS: "Worst loss on a path", "链路最大丢包率";
    CHART_SYNC: "Slowest disk syncs", "最慢的磁盘同步";
    NONE: "None.", "无。";
    NO_FIGURES: "No figures in this time.", "该时段没有数据。";
    WORST: "worst", "最差值";
    QUORUM: "quorum", "法定多数";
    COORD_LEADER: "coordination leader", "协调服务 leader";
    METAD_LEADER: "metad LEADER", "metad LEADER";
    AS_TABLE: "The same as a table", "以表格显示";
    FROM: "from", "开始";
    UNTIL: "until", "结束";
    WHAT: "what", "内容";
    WHO: "who", "操作者";
    OUTCOME: "outcome", "结果";
    CAUSE: "cause", "原因";
    SINCE: "since", "起始";
    FOLDED: "folded", "已折叠";
    ALARMS: "alerts", "条告警";
    TIMES: "times", "次";
    NO_OPEN_INCIDENT: "No incident is open.", "当前没有未结束的事件。";
    NO_INCIDENT: "No incident in the last 30 days.", "最近 30 天没有事件。";
    OPEN_INCIDENTS: "Open incidents", "未结束的事件";
    PATHS_NOW: "Paths between nodes, now", "节点间链路（当前）";
    FROM_TO: "from \\ to", "从 \\ 到";
    LOSS: "loss", "丢包";
    SILENT: "silent", "静默";
    UNKNOWN: "not known", "未知";
    ROUND_TRIP: "round trip", "往返时延";
    GOOD: "good", "正常";
    BAD: "bad", "异常";
    STATE: "state", "状态";
    OPEN: "open", "进行中";
    CLOSED: "over", "已结束";
    RUNNER_UP: "next likely", "次可能";
    AFFECTED: "affected", "受影响";
    DURATION: "duration", "时长";
    TIMELINE: "What happened", "经过";
    WHAT_TO_DO: "What to do", "处理建议";
    EXPORT: "Export", "导出";
    SEVERITY: "severity", "级别";
    ALERT: "alert", "告警";
    SUBJECT: "about", "对象";
    REASON: "reason", "原因";
    FIRING: "firing", "触发";
    PENDING: "pending", "待定";
    RESOLVED: "resolved", "已恢复";
    FLAPPING: "flapping", "反复";
    ACKNOWLEDGE: "Acknowledge", "确认";
    ACKNOWLEDGED: "acknowledged by", "已确认：";
    SILENCE: "Silence", "静默";
    SILENCES: "Silences", "静默规则";
    SILENCED: "silenced", "已静默";
    IN_MAINTENANCE: "maintenance", "维护中";
    INHIBITED: "follows from another alert", "由其他告警引起";
    COMMENT: "Comment", "备注";
    HOURS: "Hours", "小时";
    END: "End", "结束";
    SHOW: "Show", "显示";
    ACTIVE: "active", "当前";
    PAST: "past", "历史";
    ALL: "all", "全部";
    NO_ALERT: "No alert.", "没有告警。";
    RULES: "Rules", "规则";
    RULE: "rule", "规则";
    CONDITION: "condition", "条件";
    THRESHOLD: "threshold", "阈值";
    HOLD: "hold time, s", "持续时间（秒）";
    CHANGE: "Change", "修改";
    SEEN_BY: "seen by nodes", "看到的节点";
    NODE: "node", "节点";
    ROLES: "roles", "角色";
    VERSION: "version", "版本";
    UPTIME: "up for", "运行时间";
    CLOCK: "clock", "时钟";
    READY: "ready", "就绪";
    NOT_READY: "not ready", "未就绪";
    NO_ANSWER: "does not answer", "无响应";
    DISKS: "Disks", "磁盘";
    DISK: "disk", "磁盘";
    SIZE: "size", "容量";
    FREE: "free", "剩余";
    SYNC: "sync", "同步耗时";
    MAINTENANCE: "Maintenance", "维护模式";
    BEGIN_MAINTENANCE: "Begin maintenance", "进入维护";
    FILES: "files", "文件";
    FILE: "file", "文件";
    OWNER: "owner", "所有者";
    EXTENTS: "extents", "extent 数";
    IN_SYNC: "copies in sync", "同步副本";
    SERVED_BY: "served by node", "提供服务的节点";
    NOT_LISTENING: "not listening", "未监听";
    PLACEMENT: "Where copies lie", "副本分布";
    ON_NODES: "on nodes", "所在节点";
    WANTED: "wanted", "要求";
    EXAMPLES: "for example", "例如";
    NEXT: "next", "下一页";
    FIRST: "first", "首页";
    SEARCH: "Name begins with", "名称前缀";
    EVENTS: "Latest events", "最近的记录";
    TIME: "time", "时间";
    WHY: "why", "原因";
    AUDIT: "Who changed what", "操作审计";
    RECOVERY: "Recovery", "恢复";
    NOTHING_TO_RECOVER: "Nothing is being rebuilt.", "没有正在进行的重建。";
    ACCOUNTS: "Accounts", "账户";
    ROLE: "role", "角色";
    TARGETS: "Notification targets", "通知目标";
    NO_TARGET: "None. They are read from notifications.toml in the node's data folder.", "未配置。从节点数据目录的 notifications.toml 读取。";
    TEST: "Send a test message", "发送测试消息";
    SENT: "sent", "已发送";
    FAILED: "failed", "失败";
    LANGUAGE: "Language", "语言";
    NEEDS_OPERATOR: "Sign in as an operator to change this.", "以操作员身份登录后可修改。";
    MESSAGES: "messages", "消息";
    BUNDLE: "A bundle with logs, events and this report: trivet bundle", "包含日志、记录和本报告的支持包：trivet bundle";
    NOT_FOUND: "There is no such page.", "没有该页面。";
    VIEW_LIMITED: "This node cannot see nodes", "本节点看不到节点";
    VCENTER_MATRIX: "Datastores on the hosts of vCenter", "vCenter 各主机上的数据存储";
    HOST: "host", "主机";
    MODE: "mode", "模式";
    READ_AGO: "age of the reading", "数据时效";
    MOUNTED: "mounted", "已挂载";
    HEARTBEAT: "heartbeat", "检测信号";
    HEARTBEATS: "heartbeat datastores", "检测信号数据存储";
    WARNING_HIDDEN: "vSphere HA is set to hide the warning of too few heartbeat datastores (das.ignoreInsufficientHbDatastore).", "vSphere HA 已设置为隐藏检测信号数据存储不足的警告（das.ignoreInsufficientHbDatastore）。";
    PLANS: "Steps that wait", "等待执行的操作";
    STEPS: "What the agent did", "代理已执行的操作";
    BAD_BLOCKS: "damaged blocks", "损坏的数据块";
    EXPORTS: "Exports of NFS servers", "NFS 服务器的导出";
    SERVER: "server", "服务器";
    LATENCY: "answers after", "响应时延";
    CONNECTIONS: "connections", "连接数";
    OUTSTANDING: "outstanding requests", "排队请求";
    NFS_CALLS: "NFS calls", "NFS 调用";
    CALLS_MINUTE: "calls in the last minute", "最近一分钟调用数";
    PER_SECOND: "per second", "次/秒";
    MEDIAN: "median", "中位数";
    P99: "99 of 100 within", "99 分位";
    OLDEST: "longest wait now", "当前最长等待";
    READS: "read", "读取";
    WRITES: "written", "写入";
    RETURN: "Back", "返回";
}

#[cfg(test)]
mod tests {
    #[test]
    fn each_text_has_both_languages() {
        for (name, t) in super::EVERY {
            assert!(!t.en.is_empty() && !t.zh.is_empty(), "{name}");
        }
    }
}
