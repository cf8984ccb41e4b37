//! Texts about routes, in English and Chinese.

use super::HostNode;
use crate::journal::Outcome;
use crate::texts::{outcome as outcome_text, Text};
use std::collections::BTreeSet;
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

/// Where a host's routes lead.
pub(super) enum Led {
    Unknown,
    Home,
    Node(u32),
    /// More than one route: all but one are to go.
    Several(Vec<u32>),
    Person(IpAddr),
}

impl Led {
    pub(super) fn of(gateways: Option<&BTreeSet<IpAddr>>, node_at: impl Fn(IpAddr) -> Option<u32>) -> Led {
        let Some(gateways) = gateways else { return Led::Unknown };
        if let Some(via) = gateways.iter().find(|via| node_at(**via).is_none()) {
            return Led::Person(*via);
        }
        let nodes: Vec<u32> = gateways.iter().filter_map(|via| node_at(*via)).collect();
        match nodes[..] {
            [] => Led::Home,
            [node] => Led::Node(node),
            _ => Led::Several(nodes),
        }
    }
}

pub(super) fn status(own: &HostNode, address: IpAddr, led: &Led, well: bool) -> Text {
    let host = &own.host;
    let (en, zh) = match led {
        Led::Unknown => (
            "where it leads was not read yet: is this its name in vCenter?".to_string(),
            "去向尚未读到，请核对该主机在 vCenter 中的名称".to_string(),
        ),
        Led::Home => (format!("served by its own node {}", own.node), format!("由本机节点 {} 提供服务", own.node)),
        Led::Node(node) => (format!("led to node {node}"), format!("已切换到节点 {node}")),
        Led::Several(nodes) => {
            let list = |and: &str| nodes.iter().map(u32::to_string).collect::<Vec<_>>().join(and);
            (
                format!("has routes by nodes {} at once; all but one are to be removed", list(" and ")),
                format!("同时存在经由节点 {} 的路由，应只保留一条", list("、")),
            )
        }
        Led::Person(via) => (
            format!("led to {via}, which is no node: a route that a person made is left alone"),
            format!("经由 {via}，不是任何节点：人工添加的路由不会被改动"),
        ),
    };
    let (en_state, zh_state) = if well { ("", "") } else { ("; its own node is down", "；本机节点不可用") };
    text(format!("host {host}: {address} {en}{en_state}"), format!("主机 {host}：{address} {zh}{zh_state}"))
}
