//! Files that are made from the catalogue: rules for Prometheus with their tests, and the documentation.

use crate::catalogue::{rule, Severity, RULES};
use crate::language::{Language, Text};
use crate::RuleId;
use std::fmt::Write;

const HEAD: &str =
    "# Made from the catalogue of alerts; `TRIVET_UPDATE=1 cargo test -p trivet-observe generated` writes it anew.\n";

fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

fn series(name: &str) -> String {
    format!("trivet_alerts_firing{{alert=\"{name}\"}}")
}

/// Rules for Prometheus. The nodes judge the conditions, hold times among them; Prometheus adds what no node can say:
/// that a node, or all alerting, is gone.
pub fn prometheus_rules() -> String {
    let mut s = String::from(HEAD);
    s += "groups:\n  - name: trivet\n    rules:\n";
    for r in RULES.iter().filter(|r| r.id != RuleId::Watchdog) {
        let _ = write!(
            s,
            "      - alert: {}\n        expr: max without (node, instance, severity) ({}) > 0\n        labels:\n          severity: {}\n\
             \x20       annotations:\n          summary: {}\n          summary_zh: {}\n          action: {}\n          action_zh: {}\n",
            r.name,
            series(r.name),
            r.severity.name(),
            quoted(r.title.en),
            quoted(r.title.zh),
            quoted(r.action.en),
            quoted(r.action.zh)
        );
    }
    let watchdog = rule(RuleId::Watchdog);
    let _ = write!(
        s,
        "      - alert: TRIVET_NODE_NOT_SCRAPED\n        expr: up{{job=\"trivet\"}} == 0\n        for: 15s\n        labels:\n\
         \x20         severity: critical\n        annotations:\n          summary: \"a node's metrics cannot be read\"\n\
         \x20         summary_zh: \"无法读取节点的指标\"\n\
         \x20     - alert: TRIVET_ALERTING_DEAD\n        expr: absent({})\n        for: 1m\n        labels:\n\
         \x20         severity: critical\n        annotations:\n          summary: \"no node judges alerts\"\n\
         \x20         summary_zh: \"没有节点在评估告警\"\n",
        series(watchdog.name)
    );
    s
}

/// A test of each rule, for `promtool test rules`: it fires where the figure is 1, and not where it is 0.
pub fn prometheus_tests() -> String {
    let mut s = String::from(HEAD);
    s += "rule_files:\n  - rules.yml\nevaluation_interval: 15s\ntests:\n";
    for r in RULES.iter().filter(|r| r.id != RuleId::Watchdog) {
        let labels = format!("alert=\"{}\", node=\"1\", instance=\"a:1\", severity=\"{}\"", r.name, r.severity.name());
        let _ = write!(
            s,
            "  - interval: 15s\n    input_series:\n      - series: 'trivet_alerts_firing{{{labels}}}'\n        values: '0x4 1x8'\n\
             \x20   alert_rule_test:\n      - eval_time: 30s\n        alertname: {name}\n      - eval_time: 2m\n        alertname: {name}\n\
             \x20       exp_alerts:\n          - exp_labels:\n              alert: {name}\n              severity: {severity}\n\
             \x20           exp_annotations:\n              summary: {a}\n              summary_zh: {b}\n              action: {c}\n              action_zh: {d}\n",
            name = r.name,
            severity = r.severity.name(),
            a = quoted(r.title.en),
            b = quoted(r.title.zh),
            c = quoted(r.action.en),
            d = quoted(r.action.zh)
        );
    }
    s
}

const TITLE: Text = Text { en: "Alerts", zh: "告警" };
const INTRO: Text = Text {
    en: "Every alert of the catalogue: when it fires, what it can be caused by, and what to do. An alert fires when its \
         condition has lasted the hold time, and resolves after twice that time without it (2 s at the least). Conditions that \
         count, or that are one event, have no hold time. Thresholds and hold times can be changed on the page of alerts, within \
         the bounds given here.",
    zh: "告警目录：何时触发、可能由什么引起、如何处理。条件持续达到“持续时间”后触发；条件消失达到该时间的两倍（至少 2 秒）后恢复。\
         计数类条件和单次事件没有持续时间。阈值和持续时间可在告警页面上修改，范围见下表。",
};

/// The documentation of the catalogue.
pub fn documentation(l: Language) -> String {
    let t = |en: &'static str, zh: &'static str| Text { en, zh }.get(l);
    let mut s = format!("# {}\n\n{}\n\n", TITLE.get(l), INTRO.get(l));
    s += t(
        "The file is made from the catalogue in `crates/observe/src/catalogue/rows.rs`.\n",
        "本文件由 `crates/observe/src/catalogue/rows.rs` 中的目录生成。\n",
    );
    for r in RULES {
        let _ = write!(s, "\n## {}\n\n{}\n\n", r.name, r.title.get(l));
        let _ = writeln!(s, "- {}: {}", t("Severity", "级别"), r.severity.text().get(l));
        let _ = writeln!(s, "- {}: {}", t("Condition", "条件"), r.condition.get(l));
        if let Some(x) = r.threshold {
            let _ = writeln!(s, "- {}: {} {} ({} – {})", t("Threshold", "阈值"), x.value, x.unit, x.min, x.max);
        }
        if let Some(c) = r.critical {
            let _ = writeln!(s, "- {}: {c}", t("Critical from", "达到此值为严重"));
        }
        if r.severity != Severity::Info {
            let _ = writeln!(s, "- {}: {} s", t("Hold time", "持续时间"), r.hold_ms / 1000);
        }
        if !r.caused_by.is_empty() {
            let all: Vec<&str> = r.caused_by.iter().map(|c| rule(*c).name).collect();
            let _ = writeln!(s, "- {}: {}", t("Can be caused by", "可能由以下引起"), all.join(", "));
        }
        let _ = writeln!(s, "- {}: {}", t("Evidence", "证据"), r.evidence.get(l));
        let _ = writeln!(s, "- {}: {}", t("What to do", "处理建议"), r.action.get(l));
    }
    s
}
