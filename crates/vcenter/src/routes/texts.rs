//! Texts about routes, in English and Chinese.

use super::HostNode;
use crate::journal::Outcome;
use crate::texts::{outcome as outcome_text, Text};
use std::net::IpAddr;

fn text(en: String, zh: String) -> Text {
    Text { en, zh }
}

fn place(at: Option<u32>) -> (String, String) {
    match at {
        Some(node) => (format!("to node {node}"), format!("切换到节点 {node}")),
        None => ("back to the host's own node".into(), "切回本机节点".into()),
    }
}

pub fn moved(host: &str, address: IpAddr, at: Option<u32>, own: u32) -> Text {
    match at {
        Some(node) => text(
            format!("host {host}: the route to {address} leads to node {node} now, because its own node {own} is down"),
            format!("主机 {host}：本机节点 {own} 不可用，到 {address} 的路由已切换到节点 {node}"),
        ),
        None => text(
            format!("host {host}: the route to {address} is removed, its own node {own} serves it again"),
            format!("主机 {host}：本机节点 {own} 已恢复，已删除到 {address} 的路由"),
        ),
    }
}

pub fn would_move(host: &str, address: IpAddr, at: Option<u32>) -> Text {
    let (en, zh) = place(at);
    text(
        format!("host {host}: the route to {address} should move {en}; routes are moved in mode \"repair\" only"),
        format!("主机 {host}：到 {address} 的路由应{zh}；仅在 repair 模式下才会执行"),
    )
}

pub fn not_moved(host: &str, address: IpAddr, at: Option<u32>, outcome: &Outcome) -> Text {
    let ((en, zh), o) = (place(at), outcome_text(outcome));
    text(
        format!("host {host}: the route to {address} was not moved {en}: {}", o.en),
        format!("主机 {host}：到 {address} 的路由未能{zh}：{}", o.zh),
    )
}

pub fn status(own: &HostNode, address: IpAddr, gateway: Option<Option<IpAddr>>, at: Option<u32>, well: bool) -> Text {
    let host = &own.host;
    let (en, zh) = match (gateway, at) {
        (None, _) => ("where it leads is not known yet".to_string(), "去向尚未读到".to_string()),
        (Some(None), _) => {
            (format!("served by its own node {}", own.node), format!("由本机节点 {} 提供服务", own.node))
        }
        (Some(_), Some(node)) => (format!("led to node {node}"), format!("已切换到节点 {node}")),
        (Some(Some(via)), None) => (
            format!("led to {via}, which is no node: a route that a person made is left alone"),
            format!("经由 {via}，不是任何节点：人工添加的路由不会被改动"),
        ),
    };
    let (en_state, zh_state) = if well { ("", "") } else { ("; its own node is down", "；本机节点不可用") };
    text(format!("host {host}: {address} {en}{en_state}"), format!("主机 {host}：{address} {zh}{zh_state}"))
}
