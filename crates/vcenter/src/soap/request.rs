//! The calls, as SOAP envelopes.

use super::tree::{child, child_text, kind_of, referred_kind, SoapError, Tree};
use crate::config::Wanted;
use crate::observed::{AccessMode, HostRef, NfsVersion};

/// Objects in one page of a reading.
pub const PAGE_OBJECTS: u32 = 100;

/// A managed object reference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moref {
    /// Type of the object, such as `HostSystem`.
    pub kind: String,
    /// Its id, such as `host-21`.
    pub value: String,
}

impl Moref {
    /// A reference of these two parts.
    pub fn new(kind: &str, value: &str) -> Moref {
        Moref { kind: kind.into(), value: value.into() }
    }
    /// The reference of a host.
    pub fn host(host: &HostRef) -> Moref {
        Moref::new("HostSystem", &host.0)
    }
    /// The reference that an element holds; none if it names no type or no id.
    pub fn of(n: roxmltree::Node<'_, '_>) -> Option<Moref> {
        Some(Moref::new(referred_kind(n)?, n.text()?))
    }
}

/// The parts of `ServiceContent` that the agent calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Managers {
    /// `about.apiVersion`, such as `8.0.2.0`.
    pub api_version: String,
    /// A single ESXi host, not a vCenter.
    pub single_host: bool,
    /// `about.fullName`, shortened.
    pub name: String,
    /// The root folder, where views begin.
    pub root: Moref,
    /// The property collector, which reads.
    pub properties: Moref,
    /// The view manager.
    pub views: Moref,
    /// The session manager, for the login.
    pub sessions: Moref,
    /// The event manager; a single host may lack it.
    pub events: Option<Moref>,
    /// The authorization manager; a single host may lack it.
    pub authorization: Option<Moref>,
}

impl Managers {
    /// Reads the reply to [`body::service_content`].
    ///
    /// # Errors
    /// The reply is not that of `RetrieveServiceContent`.
    pub fn parse(text: &str) -> Result<Managers, SoapError> {
        let tree = Tree::parse(text)?;
        let r = tree.returned_one()?;
        let about = child(r, "about").ok_or(SoapError::Lacks("the product's description"))?;
        let moref = |name| child(r, name).and_then(Moref::of);
        let lacks = SoapError::Lacks;
        Ok(Managers {
            api_version: child_text(about, "apiVersion").unwrap_or("unknown").into(),
            single_host: child_text(about, "apiType") == Some("HostAgent"),
            name: super::tree::shorten(child_text(about, "fullName").unwrap_or_default()),
            root: moref("rootFolder").ok_or(lacks("the root folder"))?,
            properties: moref("propertyCollector").ok_or(lacks("the property collector"))?,
            views: moref("viewManager").ok_or(lacks("the view manager"))?,
            sessions: moref("sessionManager").ok_or(lacks("the session manager"))?,
            events: moref("eventManager"),
            authorization: moref("authorizationManager"),
        })
    }
}

/// Escapes text for XML; what XML cannot carry at all is left out.
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out += "&amp;",
            '<' => out += "&lt;",
            '>' => out += "&gt;",
            '"' => out += "&quot;",
            '\'' => out += "&apos;",
            '\t' | '\n' | '\r' => out.push(c),
            c if c.is_control() || c == '\u{fffe}' || c == '\u{ffff}' => {}
            c => out.push(c),
        }
    }
    out
}

fn envelope(inner: &str) -> String {
    format!(
        concat!(
            r#"<?xml version="1.0" encoding="UTF-8"?>"#,
            r#"<soapenv:Envelope xmlns:soapenv="http://schemas.xmlsoap.org/soap/envelope/" "#,
            r#"xmlns:xsd="http://www.w3.org/2001/XMLSchema" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance">"#,
            "<soapenv:Body>{}</soapenv:Body></soapenv:Envelope>"
        ),
        inner
    )
}

pub(super) fn call(method: &str, this: &Moref, inner: &str) -> String {
    let this = typed("_this", this);
    envelope(&format!(r#"<{method} xmlns="urn:vim25">{this}{inner}</{method}>"#))
}

fn typed(name: &str, m: &Moref) -> String {
    format!(r#"<{name} type="{}">{}</{name}>"#, escape(&m.kind), escape(&m.value))
}

pub(super) fn element(name: &str, text: &str) -> String {
    format!("<{name}>{}</{name}>", escape(text))
}

/// The properties that a reading asks of one kind of object.
pub struct Wants<'a> {
    /// Type of the object.
    pub kind: &'a str,
    /// Paths of its properties.
    pub paths: &'a [&'a str],
}

/// How a reading walks on from the objects of a view.
pub struct Step<'a> {
    /// Type of the object that it walks from.
    pub from: &'a str,
    /// Property that leads on.
    pub path: &'a str,
}

/// The bodies of all calls.
pub mod body {
    use super::*;

    /// `RetrieveServiceContent`, the first call; it needs no session.
    pub fn service_content() -> String {
        call("RetrieveServiceContent", &Moref::new("ServiceInstance", "ServiceInstance"), "")
    }
    /// `Login`; [`session_key`] reads the reply.
    pub fn login(m: &Managers, user: &str, password: &str) -> String {
        call("Login", &m.sessions, &(element("userName", user) + &element("password", password)))
    }
    /// `Logout`.
    pub fn logout(m: &Managers) -> String {
        call("Logout", &m.sessions, "")
    }
    /// `CreateContainerView` of the objects of these types below a container.
    pub fn create_view(m: &Managers, container: &Moref, kinds: &[&str]) -> String {
        let kinds: String = kinds.iter().map(|k| element("type", k)).collect();
        call(
            "CreateContainerView",
            &m.views,
            &format!("{}{kinds}<recursive>true</recursive>", typed("container", container)),
        )
    }
    /// `DestroyView`.
    pub fn destroy_view(view: &Moref) -> String {
        call("DestroyView", view, "")
    }

    /// Reads properties of the objects in a view, a page at a time.
    pub fn read_view(m: &Managers, view: &Moref, steps: &[Step<'_>], wants: &[Wants<'_>]) -> String {
        let traversal = |name: &str, kind: &str, path: &str, next: &str| {
            format!(
                concat!(
                    r#"<selectSet xsi:type="TraversalSpec"><name>{}</name><type>{}</type><path>{}</path>"#,
                    "<skip>false</skip>{}</selectSet>"
                ),
                name, kind, path, next
            )
        };
        let next: String =
            steps.iter().enumerate().map(|(i, s)| traversal(&format!("step{i}"), s.from, s.path, "")).collect();
        let from_view = traversal("view", "ContainerView", "view", &next);
        let object = format!("<objectSet>{}<skip>true</skip>{from_view}</objectSet>", typed("obj", view));
        call(
            "RetrievePropertiesEx",
            &m.properties,
            &format!("<specSet>{}{object}</specSet>{}", props(wants), options()),
        )
    }

    /// Reads properties of one object.
    pub fn read_object(m: &Managers, object: &Moref, wants: &Wants<'_>) -> String {
        read_objects(m, std::iter::once(object), wants)
    }
    /// Reads properties of these objects. If one of them is gone, the reply is a fault.
    pub fn read_objects<'a>(m: &Managers, objects: impl Iterator<Item = &'a Moref>, wants: &Wants<'_>) -> String {
        let one = |o| format!("<objectSet>{}<skip>false</skip></objectSet>", typed("obj", o));
        let objects: String = objects.map(one).collect();
        let props = props(std::slice::from_ref(wants));
        call("RetrievePropertiesEx", &m.properties, &format!("<specSet>{props}{objects}</specSet>{}", options()))
    }
    fn props(wants: &[Wants<'_>]) -> String {
        let of = |w: &Wants<'_>| {
            let paths: String = w.paths.iter().map(|p| element("pathSet", p)).collect();
            format!("<propSet><type>{}</type><all>false</all>{paths}</propSet>", w.kind)
        };
        wants.iter().map(of).collect()
    }
    fn options() -> String {
        format!("<options><maxObjects>{PAGE_OBJECTS}</maxObjects></options>")
    }
    /// The next page of a reading, by the token of the last.
    pub fn read_on(m: &Managers, token: &str) -> String {
        call("ContinueRetrievePropertiesEx", &m.properties, &element("token", token))
    }

    /// `RetrieveDasAdvancedRuntimeInfo`, for the chosen heartbeat datastores.
    pub fn heartbeat_datastores(cluster: &Moref) -> String {
        call("RetrieveDasAdvancedRuntimeInfo", cluster, "")
    }

    /// `DatastoreRemovedOnHostEvent`s since a moment in UTC.
    pub fn removals(events: &Moref, since_wall_ms: i64) -> String {
        let time = format!("<time><beginTime>{}</beginTime></time>", super::super::time::utc(since_wall_ms));
        // vCenter knows its own events by both spellings, by its version.
        let ids = ["DatastoreRemovedOnHostEvent", "vim.event.DatastoreRemovedOnHostEvent"];
        let ids: String = ids.iter().map(|id| element("eventTypeId", id)).collect();
        let filter = format!("<filter>{time}{ids}</filter>");
        call("QueryEvents", events, &filter)
    }

    /// Events of hosts about APD and NFS servers since a moment in UTC. A question of its own: vCenter answers with a bounded
    /// number, and a storm of these must not push removals out.
    pub fn host_events(events: &Moref, since_wall_ms: i64) -> String {
        let time = format!("<time><beginTime>{}</beginTime></time>", super::super::time::utc(since_wall_ms));
        let ids: String = crate::host_events::ids().map(|id| element("eventTypeId", id)).collect();
        call("QueryEvents", events, &format!("<filter>{time}{ids}</filter>"))
    }

    /// The privileges that a step may need, and that to write events.
    pub const PRIVILEGES: [&str; 4] =
        ["Host.Config.Storage", "Host.Config.Connection", "Global.LogEvent", "Host.Config.Network"];

    /// `HasPrivilegeOnEntities` for [`PRIVILEGES`] on these hosts.
    pub fn privileges(authorization: &Moref, hosts: &[HostRef], session: &str) -> String {
        let hosts: String = hosts.iter().map(|h| typed("entity", &Moref::host(h))).collect();
        let privileges: String = PRIVILEGES.iter().map(|p| element("privId", p)).collect();
        call("HasPrivilegeOnEntities", authorization, &format!("{hosts}{}{privileges}", element("sessionId", session)))
    }

    /// `RefreshStorageSystem`.
    pub fn refresh(storage_system: &Moref) -> String {
        call("RefreshStorageSystem", storage_system, "")
    }

    /// `CreateNasDatastore` with exactly these strings.
    pub fn mount(datastore_system: &Moref, w: &Wanted) -> String {
        let access = match w.access {
            AccessMode::ReadWrite => "readWrite",
            AccessMode::ReadOnly => "readOnly",
        };
        let mut spec = element("remoteHost", &w.server)
            + &element("remotePath", &w.path)
            + &element("localPath", &w.name)
            + &element("accessMode", access)
            + &element("type", if w.version == NfsVersion::V3 { "NFS" } else { "NFS41" });
        if w.version == NfsVersion::V41 {
            spec += &element("remoteHostNames", &w.server);
        }
        call("CreateNasDatastore", datastore_system, &format!("<spec>{spec}</spec>"))
    }

    /// `ReconfigureHostForDAS_Task`.
    pub fn reconfigure_ha(host: &HostRef) -> String {
        call("ReconfigureHostForDAS_Task", &Moref::host(host), "")
    }
    /// `DisconnectHost_Task`.
    pub fn disconnect(host: &HostRef) -> String {
        call("DisconnectHost_Task", &Moref::host(host), "")
    }
    /// `ReconnectHost_Task`.
    pub fn reconnect(host: &HostRef) -> String {
        call("ReconnectHost_Task", &Moref::host(host), "")
    }

    /// `LogUserEvent` on a host.
    pub fn log_event(events: &Moref, host: &HostRef, message: &str) -> String {
        call("LogUserEvent", events, &(typed("entity", &Moref::host(host)) + &element("msg", message)))
    }
    /// The same for simulators that lack `LogUserEvent`.
    pub fn post_event(events: &Moref, host: &HostRef, host_name: &str, message: &str) -> String {
        let now =
            "<key>0</key><chainId>0</chainId><createdTime>1970-01-01T00:00:00Z</createdTime><userName></userName>";
        let host = format!("<host>{}{}</host>", element("name", host_name), typed("host", &Moref::host(host)));
        let what = element("fullFormattedMessage", message) + &host + &element("eventTypeId", "io.trivet.repair");
        call("PostEvent", events, &format!(r#"<eventToPost xsi:type="EventEx">{now}{what}</eventToPost>"#))
    }
}

/// The session's key from `Login`'s reply.
///
/// # Errors
/// The reply is a fault or no reply of `Login`.
pub fn session_key(text: &str) -> Result<String, SoapError> {
    let tree = Tree::parse(text)?;
    let r = tree.returned_one()?;
    Ok(child_text(r, "key").unwrap_or_default().to_string())
}

/// A reference that a call returned. vCenter's newest simulator leaves it empty where vCenter does not.
///
/// # Errors
/// The reply is a fault or no reply.
pub fn returned_moref(text: &str) -> Result<Option<Moref>, SoapError> {
    Ok(Tree::parse(text)?.returned()?.first().copied().and_then(Moref::of))
}

/// How a task stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Task {
    /// The task is queued or running.
    Open,
    /// The task succeeded.
    Success,
    /// The task failed.
    Failed {
        /// Class of the fault.
        kind: String,
        /// Its text, shortened.
        text: String,
    },
}

impl Task {
    /// The properties that [`Task::parse`] reads.
    pub const WANTS: Wants<'static> = Wants { kind: "Task", paths: &["info.state", "info.error"] };

    /// Reads a page with the properties of one task.
    ///
    /// # Errors
    /// The reply is a fault or no reading of a task.
    pub fn parse(text: &str) -> Result<Task, SoapError> {
        let tree = Tree::parse(text)?;
        let objects = child(tree.returned_one()?, "objects").ok_or(SoapError::Lacks("the task"))?;
        let prop = |path: &str| {
            let set = objects.children().filter(|n| n.tag_name().name() == "propSet");
            set.filter(|p| child_text(*p, "name") == Some(path)).find_map(|p| child(p, "val"))
        };
        match prop("info.state").and_then(|s| s.text()) {
            Some("success") => Ok(Task::Success),
            Some("error") => {
                let error = prop("info.error");
                let kind = error.and_then(|e| child(e, "fault")).and_then(kind_of).unwrap_or("a fault");
                let text = error.and_then(|e| child_text(e, "localizedMessage")).unwrap_or_default();
                Ok(Task::Failed { kind: kind.into(), text: super::tree::shorten(text) })
            }
            _ => Ok(Task::Open),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_of_a_person_stays_text() {
        let m = Moref::new("SessionManager", "SessionManager");
        let managers = Managers {
            api_version: String::new(),
            single_host: false,
            name: String::new(),
            root: m.clone(),
            properties: m.clone(),
            views: m.clone(),
            sessions: m.clone(),
            events: None,
            authorization: None,
        };
        let evil = "</password><x a='\"'>&\u{0}\u{7}";
        let text = body::login(&managers, "a&b", evil);
        let document = roxmltree::Document::parse(&text).unwrap();
        let password = document.descendants().find(|n| n.tag_name().name() == "password").unwrap();
        assert_eq!(password.text(), Some("</password><x a='\"'>&"));
    }
}
