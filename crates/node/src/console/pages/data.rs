//! Datastores: their folders and files with owner and copies.

use super::Html;
use crate::console::layout::{bytes, head, page};
use crate::console::{texts as t, App, Context};
use axum::extract::{Query, State};
use maud::{html, Markup};
use serde::Deserialize;
use std::sync::Arc;
use trivet_storage::codes::FileKind;
use trivet_storage::ids::FileId;

/// Entries of a folder on one page.
const PAGE: usize = 100;
/// Entries that a search examines; then it shows what it has found.
const SEARCHED_MAX: usize = 20_000;

#[derive(Debug, Default, Deserialize)]
pub struct Wanted {
    /// Displayed path of the folder; the folder is found by its number, because names need not be UTF-8.
    #[serde(default)]
    path: String,
    #[serde(default)]
    folder: u64,
    #[serde(default)]
    after: u64,
    #[serde(default)]
    name: String,
}

struct Entry {
    name: String,
    /// Its number, if it is one.
    folder: Option<FileId>,
    size_bytes: u64,
    owner: u32,
    extents: usize,
    in_sync: usize,
    missing: usize,
    recovering: usize,
}

struct Listing {
    entries: Vec<Entry>,
    next: Option<u64>,
    dir: FileId,
    parent: Option<FileId>,
}

/// Reads a folder under metad's lock a few entries at a time.
fn list(app: &App, w: &Wanted) -> Option<Listing> {
    let metad = app.monitor.sources.metad.as_ref()?;
    let (stores, _) = metad.datastores_and_bindings();
    let store = w.path.split('/').find(|n| !n.is_empty())?;
    let store = stores.iter().find(|d| d.name == store)?;
    let dir = if w.folder == 0 { store.root } else { FileId(w.folder) };
    // A number that is somebody else's folder is not shown under this name.
    let (own, _) = metad.file(dir)?;
    if own.attr.datastore != store.id || own.attr.kind != FileKind::Folder {
        return None;
    }
    let parent = (dir != store.root).then_some(own.parent);
    let (mut entries, mut after, mut looked) = (Vec::new(), w.after.max(2), 0);
    loop {
        let (found, end) = metad.list(dir, after, PAGE);
        let last = found.last().map(|e| e.cookie);
        for e in found {
            looked += 1;
            after = e.cookie;
            if !e.name.starts_with(w.name.as_bytes()) {
                continue;
            }
            let with = metad.file(e.fileid).filter(|_| e.attr.kind == FileKind::File);
            let copies = |f: fn(&trivet_storage::messages::ExtentConfig, usize) -> usize| {
                let wanted = store.copies as usize;
                with.as_ref().map_or(0, |(_, x)| x.iter().map(|x| f(x, wanted)).sum())
            };
            entries.push(Entry {
                folder: (e.attr.kind == FileKind::Folder).then_some(e.fileid),
                size_bytes: e.attr.size,
                owner: with.as_ref().map_or(0, |(i, _)| i.lease.gateway.0),
                extents: with.as_ref().map_or(0, |(_, x)| x.len()),
                in_sync: copies(|x, _| x.replicas.len()),
                missing: copies(|x, wanted| wanted.saturating_sub(x.replicas.len() + usize::from(x.joining.is_some()))),
                recovering: copies(|x, _| usize::from(x.joining.is_some())),
                name: String::from_utf8_lossy(&e.name).into_owned(),
            });
            if entries.len() >= PAGE {
                return Some(Listing { entries, next: Some(after), dir, parent });
            }
        }
        if end || last.is_none() {
            return Some(Listing { entries, next: None, dir, parent });
        }
        if looked >= SEARCHED_MAX {
            return Some(Listing { entries, next: Some(after), dir, parent });
        }
    }
}

pub async fn show(State(app): State<Arc<App>>, c: Context, Query(w): Query<Wanted>) -> Html {
    let v = app.monitor.view();
    let known = app.monitor.known();
    let own: Vec<_> = known.iter().flat_map(|k| &k.status.exports).collect();
    let copies = |name: &str| own.iter().find(|e| e.name == name).map(|e| e.copies);
    let newest = known.iter().filter_map(|k| k.status.contents.clone()).max_by_key(|k| k.applied);
    let agent = super::vcenter::snapshot(&app).await;
    let reader = app.clone();
    let path = w.path.trim_matches('/').to_string();
    let name = w.name.clone();
    let listing = tokio::task::spawn_blocking(move || list(&reader, &w)).await.ok().flatten();
    // The page of a datastore's root has its snapshots.
    let metad = app.monitor.sources.metad.as_ref().filter(|_| !path.is_empty() && !path.contains('/'));
    let snapshots = metad.map(|m| m.snapshots(&path)).filter(|found| !found.root.is_none());
    let body = html! {
        h1 { (c.t(t::DATASTORES)) }
        @if !v.exports.is_empty() { (exports(&c, &v.exports)) }
        @if !v.datastores.is_empty() { section.card {
            div.scroll tabindex="0" {
                table {
                    thead { tr { @for h in [t::DATASTORES, t::FILES, t::SIZE, t::WANTED] { (head(&c, h)) } } }
                    tbody {
                        @for d in &v.datastores {
                            @let size = newest.as_ref().and_then(|n| n.by_datastore.get(&d.name)).map_or(0, |s| s.1);
                            tr {
                                td { a href=(format!("/datastores?path=/{}", d.name)) { (d.name) } }
                                td.n { (d.files) } td.n { (bytes(size)) }
                                td.n { @match copies(&d.name) { Some(n) => { (n) } None => { "—" } } }
                            }
                        }
                    }
                }
            }
        } }
        @if !v.addresses.is_empty() { section.card {
            h2 { (c.t(t::ADDRESSES)) }
            div.scroll tabindex="0" {
                table {
                    thead { tr { th scope="col" { (c.t(t::ADDRESSES)) } th scope="col" { (c.t(t::SERVED_BY)) } th scope="col" { (c.t(t::STATE)) } } }
                    tbody {
                        @for a in &v.addresses {
                            tr {
                                td { (a.address) } td { (a.node) }
                                td class=(if a.listening == Some(true) { "ok" } else { "crit" }) {
                                    @match a.listening { Some(true) => { (c.t(t::SERVED)) } Some(false) => { (c.t(t::NOT_LISTENING)) " " (a.error) } None => { (c.t(t::UNKNOWN)) } }
                                }
                            }
                        }
                    }
                }
            }
        } }
        @if let Some(found) = &agent { (super::vcenter::card(&c, found)) }
        @if let Some(l) = &listing { (files(&c, &path, &name, l)) }
        @if let Some(found) = &snapshots { (super::snapshots::card(&c, &path, found)) }
        @if let Some(n) = newest.as_ref().filter(|n| !n.groups.is_empty()) {
            section.card {
                h2 { (c.t(t::PLACEMENT)) }
                div.scroll tabindex="0" {
                    table {
                        thead { tr { @for h in [t::DATASTORES, t::ON_NODES, t::WANTED, t::EXTENTS, t::RECOVERING, t::EXAMPLES] { (head(&c, h)) } } }
                        tbody {
                            @for g in n.groups.iter().take(PAGE) {
                                tr {
                                    td { (g.datastore) }
                                    td class=(if g.nodes.len() < g.wanted as usize { "warn" } else { "" }) { (g.nodes.iter().map(u32::to_string).collect::<Vec<_>>().join(", ")) }
                                    td.n { (g.wanted) } td.n { (g.extents) }
                                    td { @if let Some(j) = g.joining { (c.t(t::NODE)) " " (j) } @else { "—" } }
                                    td { (g.files.join(", ")) }
                                }
                            }
                        }
                    }
                }
            }
        }
        section.card {
            h2 { (c.t(t::CLIENTS)) }
            @if v.clients.is_empty() { p.s { (c.t(t::NONE)) } }
            @for k in v.clients.iter().take(PAGE) {
                @if k.connected { span.t { (k.client) } " " } @else { span class="t warn" { (k.client) " " (c.t(t::NO_ANSWER)) } " " }
            }
        }
    };
    Html(page(&c, c.t(t::DATASTORES), true, &body))
}

/// The exports of NFS servers that are only watched.
fn exports(c: &Context, all: &[trivet_observe::view::ExportView]) -> Markup {
    html! {
        section.card {
            h2 { (c.t(t::EXPORTS)) }
            div.scroll tabindex="0" {
                table {
                    thead { tr { @for h in [t::SERVER, t::STATE, t::LATENCY, t::SIZE, t::FREE] { (head(c, h)) } } }
                    tbody {
                        @for e in all {
                            tr {
                                td { (e.server) ":" (e.path) }
                                @match &e.error { Some(why) => { td.crit { (c.t(t::BAD)) ": " (why) } } None => { td.ok { (c.t(t::GOOD)) } } }
                                td.n { @match e.latency_ms { Some(ms) => { (format!("{ms:.1} ms")) } None => { "—" } } }
                                td.n { @if e.total_bytes > 0 { (bytes(e.total_bytes)) } @else { "—" } }
                                td.n { @if e.total_bytes > 0 { (bytes(e.free_bytes)) } @else { "—" } }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn files(c: &Context, path: &str, name: &str, l: &Listing) -> Markup {
    let up = path.rsplit_once('/').map(|(up, _)| up).zip(l.parent);
    html! {
        section.card {
            h2 { "/" (path) }
            form.row method="get" action="/datastores" {
                input type="hidden" name="path" value=(path);
                input type="hidden" name="folder" value=(l.dir);
                label { (c.t(t::SEARCH)) input name="name" value=(name) maxlength="255"; }
                button { (c.t(t::SHOW)) }
                @if let Some((up, id)) = up { a.btn href=(format!("/datastores?path={}&folder={id}", query(up))) { (c.t(t::RETURN)) } }
            }
            div.scroll tabindex="0" {
                table {
                    thead { tr { @for h in [t::FILE, t::SIZE, t::OWNER, t::EXTENTS, t::IN_SYNC, t::RECOVERING, t::MISSING] { (head(c, h)) } } }
                    tbody {
                        @for e in &l.entries {
                            tr {
                                @if let Some(id) = e.folder {
                                    td colspan="7" { a href=(format!("/datastores?path={}&folder={id}", query(&format!("{path}/{}", e.name)))) { (e.name) "/" } }
                                } @else {
                                    td { (e.name) }
                                    td.n { (bytes(e.size_bytes)) }
                                    td.n { @if e.owner > 0 { (e.owner) } @else { "—" } }
                                    td.n { (e.extents) } td.n { (e.in_sync) } td.n { (e.recovering) }
                                    td class=(if e.missing > 0 { "n warn" } else { "n" }) { (e.missing) }
                                }
                            }
                        }
                    }
                }
            }
            @if let Some(next) = l.next {
                div.pager { a href=(format!("/datastores?path={}&folder={}&name={}&after={next}", query(path), l.dir, query(name))) { (c.t(t::NEXT)) } }
            }
        }
    }
}

fn query(text: &str) -> String {
    text.bytes()
        .map(|b| {
            if b.is_ascii_alphanumeric() || b"-_.~/".contains(&b) {
                char::from(b).to_string()
            } else {
                format!("%{b:02X}")
            }
        })
        .collect()
}
