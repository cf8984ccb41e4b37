//! Snapshots of a datastore, and clones of its files: what there is, and forms to make more of them.

use crate::console::accounts::Role;
use crate::console::layout::time;
use crate::console::{texts as t, Context};
use maud::{html, Markup};
use trivet_storage::messages::{SnapshotLine, SnapshotList};

/// Longest path that a form takes, in characters; the server takes longer ones by the command.
const PATH_CHARS_MAX: usize = 1_024;

pub(super) fn card(c: &Context, datastore: &str, found: &SnapshotList) -> Markup {
    html! {
        section.card {
            h2 { (c.t(t::SNAPSHOTS)) }
            @if found.lines.is_empty() { p.s { (c.t(t::NONE)) } }
            @for s in &found.lines { (line(c, datastore, s)) }
            p.s { (c.t(t::SNAPSHOT_WHERE)) }
            @if c.may(Role::Operator) { (forms(c, datastore, found)) } @else { p.s { (c.t(t::NEEDS_OPERATOR)) } }
        }
    }
}

fn line(c: &Context, datastore: &str, s: &SnapshotLine) -> Markup {
    html! {
        form.row method="post" action="/datastores/snapshot/delete" {
            (c.csrf())
            input type="hidden" name="datastore" value=(datastore);
            input type="hidden" name="name" value=(s.name);
            span {
                b { (s.name) } " " (c.t(t::SNAPSHOT_AT)) " " (time((s.taken_ns / 1_000_000) as i64)) ", " (s.files) " " (c.t(t::FILES))
                @if s.forming > 0 { ", " span.warn { (s.forming) " " (c.t(t::SNAPSHOT_FORMING)) } }
            }
            @if c.may(Role::Operator) { button { (c.t(t::SNAPSHOT_DELETE)) } }
        }
    }
}

fn forms(c: &Context, datastore: &str, found: &SnapshotList) -> Markup {
    html! {
        form.row method="post" action="/datastores/snapshot" {
            (c.csrf())
            input type="hidden" name="datastore" value=(datastore);
            label { (c.t(t::SNAPSHOT_NAME)) input name="name" required maxlength="255"; }
            button { (c.t(t::SNAPSHOT_TAKE)) }
        }
        form.row method="post" action="/datastores/clone" {
            (c.csrf())
            input type="hidden" name="datastore" value=(datastore);
            label { (c.t(t::CLONE_FROM)) input name="from" required maxlength=(PATH_CHARS_MAX); }
            label { (c.t(t::CLONE_TO)) input name="to" required maxlength=(PATH_CHARS_MAX); }
            button { (c.t(t::CLONE)) }
        }
        p.s { (c.t(t::CLONE_HOW)) }
        @if !found.lines.is_empty() {
            form.row method="post" action="/datastores/restore" {
                (c.csrf())
                input type="hidden" name="datastore" value=(datastore);
                label { (c.t(t::SNAPSHOTS)) select name="name" { @for s in &found.lines { option value=(s.name) { (s.name) } } } }
                label { (c.t(t::CLONE_FROM)) input name="from" required maxlength=(PATH_CHARS_MAX); }
                button { (c.t(t::RESTORE)) }
            }
            p.s { (c.t(t::RESTORE_HOW)) }
        }
    }
}
