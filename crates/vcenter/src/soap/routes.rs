//! A host's routes: read as `HostIpRouteTableInfo`, changed by `UpdateIpRouteTableConfig`.

use super::request::{call, element, Moref, Wants};
use super::tree::{child, child_text, children, SoapError, Tree};
use roxmltree::Node;
use std::collections::BTreeMap;
use std::net::IpAddr;

/// Routes of hosts, with the object that changes them.
pub const ROUTES: Wants<'_> =
    Wants { kind: "HostSystem", paths: &["name", "configManager.networkSystem", "config.network.routeTableInfo"] };

/// By which the declared hosts are found among all.
pub const NAMES: Wants<'_> = Wants { kind: "HostSystem", paths: &["name"] };

/// Routes of one host; further ones are not read. ESXi's own tables have some tens.
pub const ROUTES_MAX: usize = 1_000;

/// A route to a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route {
    /// Address of the network.
    pub network: IpAddr,
    /// Bits of its prefix, 0 to 128.
    pub prefix: u8,
    /// Next hop.
    pub gateway: IpAddr,
}

impl Route {
    /// The route to one address.
    pub fn to(address: IpAddr, gateway: IpAddr) -> Route {
        Route { network: address, prefix: if address.is_ipv4() { 32 } else { 128 }, gateway }
    }
}

/// The routes of a host, and where changes of them go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostRoutes {
    /// `HostNetworkSystem`, for changes.
    pub network_system: Moref,
    /// All routes of both families, at most [`ROUTES_MAX`].
    pub routes: Vec<Route>,
}

/// A change of a host's routes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// Add this one.
    Add(Route),
    /// Remove this one.
    Remove(Route),
}

/// Takes the hosts of a page in whose names are wanted. A token means that there are more.
///
/// # Errors
/// The reply is a fault, breaks a bound, or is no page.
pub fn add_names(
    text: &str,
    wanted: impl Fn(&str) -> bool,
    hosts: &mut BTreeMap<String, Moref>,
) -> Result<Option<String>, SoapError> {
    let tree = Tree::parse(text)?;
    let Some(result) = tree.returned()?.first().copied() else { return Ok(None) };
    for object in children(result, "objects") {
        let name = property(object, "name").and_then(|n| n.text());
        let at = child(object, "obj").and_then(Moref::of);
        if let (Some(name), Some(at)) = (name.filter(|n| wanted(n)), at) {
            hosts.insert(name.to_string(), at);
        }
    }
    Ok(child_text(result, "token").map(str::to_string))
}

fn property<'a, 'i>(object: Node<'a, 'i>, path: &str) -> Option<Node<'a, 'i>> {
    let set = object.children().filter(|c| c.tag_name().name() == "propSet");
    set.filter(|p| child_text(*p, "name") == Some(path)).find_map(|p| child(p, "val"))
}

/// Takes a page of hosts in, by their names. A token means that there are more.
///
/// # Errors
/// The reply is a fault, breaks a bound, or is no page.
pub fn add_page(text: &str, hosts: &mut BTreeMap<String, HostRoutes>) -> Result<Option<String>, SoapError> {
    let tree = Tree::parse(text)?;
    let Some(result) = tree.returned()?.first().copied() else { return Ok(None) };
    for object in children(result, "objects") {
        if hosts.len() >= super::inventory::OBJECTS_MAX {
            return Err(SoapError::TooManyNodes);
        }
        let get = |path: &str| property(object, path);
        let (Some(name), Some(network_system)) =
            (get("name").and_then(|n| n.text()), get("configManager.networkSystem").and_then(Moref::of))
        else {
            continue;
        };
        let table = get("config.network.routeTableInfo");
        let both = table.into_iter().flat_map(|t| children(t, "ipRoute").chain(children(t, "ipv6Route")));
        let routes = both.filter_map(route).take(ROUTES_MAX).collect();
        hosts.insert(name.to_string(), HostRoutes { network_system, routes });
    }
    Ok(child_text(result, "token").map(str::to_string))
}

fn route(n: Node<'_, '_>) -> Option<Route> {
    let ip = |name| child_text(n, name)?.parse::<IpAddr>().ok();
    Some(Route {
        network: ip("network")?,
        prefix: child_text(n, "prefixLength")?.parse().ok()?,
        gateway: ip("gateway")?,
    })
}

/// The call that makes these changes, in this order.
pub fn update(network_system: &Moref, changes: &[Change]) -> String {
    let one = |change: &Change| {
        let (operation, r) = match change {
            Change::Add(r) => ("add", r),
            Change::Remove(r) => ("remove", r),
        };
        let list = if r.network.is_ipv4() { "ipRoute" } else { "ipv6Route" };
        let route = element("network", &r.network.to_string())
            + &element("prefixLength", &r.prefix.to_string())
            + &element("gateway", &r.gateway.to_string());
        format!("<{list}>{}<route>{route}</route></{list}>", element("changeOperation", operation))
    };
    let changes: String = changes.iter().map(one).collect();
    call("UpdateIpRouteTableConfig", network_system, &format!("<config>{changes}</config>"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes_are_read_as_the_api_documents_them() {
        let text = concat!(
            r#"<e:Envelope xmlns:e="http://schemas.xmlsoap.org/soap/envelope/"><e:Body>"#,
            r#"<RetrievePropertiesExResponse xmlns="urn:vim25"><returnval><objects><obj type="HostSystem">host-1</obj>"#,
            "<propSet><name>name</name><val>esx1</val></propSet>",
            r#"<propSet><name>configManager.networkSystem</name><val type="HostNetworkSystem">net-1</val></propSet>"#,
            "<propSet><name>config.network.routeTableInfo</name><val>",
            "<ipRoute><network>0.0.0.0</network><prefixLength>0</prefixLength><gateway>10.0.10.1</gateway>",
            "<deviceName>vmk0</deviceName></ipRoute>",
            "<ipRoute><network>192.168.33.2</network><prefixLength>32</prefixLength><gateway>10.0.10.72</gateway></ipRoute>",
            "<ipRoute><network>x</network><prefixLength>32</prefixLength><gateway>10.0.10.72</gateway></ipRoute>",
            "<ipv6Route><network>fd00::2</network><prefixLength>128</prefixLength><gateway>fe80::1</gateway></ipv6Route>",
            "</val></propSet></objects></returnval></RetrievePropertiesExResponse></e:Body></e:Envelope>"
        );
        let mut names = BTreeMap::new();
        assert_eq!(add_names(text, |n| n == "esx1", &mut names), Ok(None));
        assert_eq!(names["esx1"], Moref::new("HostSystem", "host-1"));
        assert_eq!(add_names(text, |n| n == "esx2", &mut BTreeMap::new()), Ok(None));
        let mut hosts = BTreeMap::new();
        assert_eq!(add_page(text, &mut hosts), Ok(None));
        let host = &hosts["esx1"];
        assert_eq!(host.network_system, Moref::new("HostNetworkSystem", "net-1"));
        let ours = Route::to("192.168.33.2".parse().unwrap(), "10.0.10.72".parse().unwrap());
        assert_eq!(host.routes.len(), 3, "an entry that is no route is none");
        assert!(host.routes.contains(&ours) && host.routes[2].prefix == 128);
        let call =
            update(&host.network_system, &[Change::Remove(ours), Change::Add(Route::to(ours.network, ours.network))]);
        let (remove, add) = (call.find("<changeOperation>remove"), call.find("<changeOperation>add"));
        assert!(remove.is_some() && remove < add, "{call}");
        roxmltree::Document::parse(&call).unwrap();
    }
}
