//! Questions that these logs leave open.

use super::{names, words::seconds, Lang};
use crate::time;
use crate::Analysis;

/// A log that ends at least this much before the newest one, in milliseconds, may not have been collected to its end.
const ENDS_EARLY_MS: i64 = 60_000;

/// Most important first.
pub fn blind_spots(a: &Analysis, lang: Lang) -> Vec<String> {
    let story = &a.story;
    let names = names(story);
    let en = lang == Lang::English;
    let list = |ids: &[u32]| {
        let named: Vec<String> =
            ids.iter().map(|id| names.get(id).cloned().unwrap_or_else(|| id.to_string())).collect();
        named.join(",")
    };
    let mut out = Vec::new();
    let blind = seconds(story.timeout_ms as i64);
    let all_own = !story.own.is_empty() && story.own == story.read;
    if !all_own && en {
        out.push(format!("Outages shorter than the read time-out of {blind} s leave no trace in these logs."));
    } else if !all_own {
        out.push(format!("短于读超时 {blind} 秒的中断在日志中没有痕迹。"));
    }
    if !all_own && !story.timeout_known {
        out.push(if en {
            "tickTime and syncLimit are in no log: the read time-out, and with it each corrected start, is assumed."
                .into()
        } else {
            "日志中没有 tickTime 和 syncLimit：读超时及据此修正的开始时间是假定的。".to_string()
        });
    }
    let missing: Vec<u32> = story.servers.difference(&story.read).copied().collect();
    let alone = story.servers.len() < 2;
    match (alone, missing.is_empty(), en) {
        (true, _, true) => out.push(
            "These logs mention only one server: who led, and whether the ensemble worked without it, is not known."
                .into(),
        ),
        (true, _, false) => out.push("日志只涉及一个节点：谁是 leader、集群是否仍在工作，无法得知。".into()),
        (false, false, true) => {
            out.push(format!("No log of {}: what it saw, and why, is told by the others only.", list(&missing)))
        }
        (false, false, false) => out.push(format!("没有 {} 的日志：只能由其他节点的日志推断。", list(&missing))),
        _ => {}
    }
    let unsure: Vec<u32> = story.read.iter().filter(|id| !a.offsets.contains_key(id)).copied().collect();
    if story.read.len() > 1 && !unsure.is_empty() && !all_own {
        out.push(if en {
            format!("The clock of {} could not be compared with the others'.", list(&unsure))
        } else {
            format!("{} 的时钟无法与其他节点比较。", list(&unsure))
        });
    }
    for (id, end) in a.ends.iter().filter(|(_, end)| story.last - **end > ENDS_EARLY_MS) {
        out.push(if en {
            format!("The log of {} ends at {}.", list(&[*id]), time::clock(*end))
        } else {
            format!("{} 的日志止于 {}。", list(&[*id]), time::clock(*end))
        });
    }
    out
}
