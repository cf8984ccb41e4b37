//! Gates: every reason why a step may not be taken now. A step needs all of them open, twice.

use crate::action::{Action, Rung};
use crate::config::{Config, Mode, Wanted};
use crate::journal::{Journal, Proof};
use crate::now::Now;
use crate::observed::{Connection, HostRef, Observed, OurSide, Power};
use crate::state::State;
use crate::wanted::Origin;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A reading older than this decides nothing.
pub const OBSERVED_FRESH_MS: u64 = 15_000;
/// Failed steps for a pair of host and datastore after which a person has to look.
pub const ATTEMPTS_MAX: usize = 3;
/// Failures older than this no longer count as attempts.
const ATTEMPTS_FOR_MS: i64 = 21_600_000;
/// Pause between any two steps, so that vCenter's tasks and views settle.
const BETWEEN_STEPS_MS: i64 = 15_000;
/// A cool-down doubles with each failure, at most this often.
const COOL_DOWN_DOUBLES_MAX: u32 = 4;
/// Failovers that lengthen the hold; further ones do not, so that a repair comes within five times the configured hold.
pub const HOLDS_MAX: u32 = 5;
const HOUR_MS: i64 = 3_600_000;

/// A reason why a step may not be taken now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "gate")]
pub enum Gate {
    /// The mode is `watch`.
    ModeWatch,
    /// The mode is `propose`, and nobody confirmed the plan.
    NeedsPerson,
    /// This node does not lead metad.
    NotLeader,
    /// The reading is older than [`OBSERVED_FRESH_MS`], or there is none.
    OldReading,
    /// vCenter has no connection to the host, or does not know it.
    HostNotConnected,
    /// The host is in maintenance mode.
    HostInMaintenance,
    /// The host is not powered on.
    HostNotPoweredOn,
    /// A task is running on the host.
    HostBusy {
        /// Description of the task.
        with: String,
    },
    /// The datastore is in maintenance mode.
    DatastoreInMaintenance,
    /// The datastore was learned, and nobody confirmed it.
    NotConfirmed,
    /// The fault is younger than `repair_after_ms`.
    NotLongEnough {
        /// Milliseconds that are missing.
        left_ms: u64,
    },
    /// More than half of the hosts miss the datastore: an outage of the storage.
    MostHostsMiss {
        /// Hosts that miss it.
        missing: usize,
        /// Hosts that are meant to have it.
        of: usize,
    },
    /// vSphere HA is failing over, or the cluster is cut in two.
    HaFailover {
        /// Name of the host that says so.
        host: String,
        /// State of vSphere HA on it (`dasHostState`).
        state: String,
    },
    /// metad has no quorum.
    OurQuorumLost,
    /// The datastore is ours, and no gateway serves it.
    OurExportDown,
    /// The datastore is ours, and its address is not reachable from outside.
    OurAddressUnreachable,
    /// The storage's own side was not read yet.
    OurSideUnknown,
    /// The storage failed over, or metad's LEADER changed, a short while ago.
    OurFailover {
        /// Milliseconds of the hold that are left.
        left_ms: u64,
    },
    /// No other host uses the datastore: nothing proves that its strings are right.
    NoHealthyPeer,
    /// vCenter has several datastores with these strings.
    IdentityNotUnique {
        /// How many.
        count: usize,
    },
    /// The datastore's name belongs to another one.
    NameTaken {
        /// Identity of that one.
        by: String,
    },
    /// A person removed the datastore from this host, and nobody confirmed the plan since.
    RemovedByPerson {
        /// The user at vCenter.
        who: String,
    },
    /// Another step is open.
    StepOpen,
    /// The pause after a step on this host, or between any two steps, is not over.
    CoolDown {
        /// Milliseconds that are left.
        left_ms: u64,
    },
    /// The steps of an hour are used up.
    BudgetSpent {
        /// The configured number.
        per_hour: u32,
    },
    /// [`ATTEMPTS_MAX`] steps failed, and nobody confirmed another one.
    AttemptsUsedUp {
        /// Steps that failed.
        count: usize,
    },
    /// The configuration does not allow this rung.
    RungNotAllowed,
    /// The agent's user lacks a privilege on the host.
    NoPrivilege {
        /// Name of the privilege, such as `Host.Config.Storage`.
        privilege: String,
    },
}

/// Everything that gates look at, but for the step itself.
pub struct Context<'a> {
    /// The clocks.
    pub now: Now,
    /// The configuration.
    pub config: &'a Config,
    /// The last reading of vCenter.
    pub observed: &'a Observed,
    /// The storage's own side; none before it was read.
    pub our_side: Option<&'a OurSide>,
    /// Since when this node leads under the epoch fence.
    pub leading_since_ms: Option<u64>,
    /// The journal, for what was tried before.
    pub journal: &'a Journal,
    /// Each wanted datastore, by its name, on each host.
    pub matrix: &'a BTreeMap<(HostRef, String), Cell>,
    /// Another step than the one looked at is open.
    pub step_open: bool,
}

/// The state of a wanted datastore on a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cell {
    /// The state.
    pub state: State,
    /// Since when, on the monotonic clock in milliseconds.
    pub since_ms: u64,
}

/// The step that gates judge.
pub struct Target<'a> {
    /// The step.
    pub action: &'a Action,
    /// The wanted datastore it is for, and how it became wanted.
    pub wanted: Option<(&'a Wanted, Origin)>,
    /// Beginning of the fault, on the monotonic clock in milliseconds.
    pub since_ms: u64,
    /// A person confirmed its plan.
    pub confirmed: bool,
}

/// All closed gates of a step; none: it may be taken.
pub fn closed(c: &Context<'_>, t: &Target<'_>) -> Vec<Gate> {
    let mut gates = Vec::new();
    policy(c, t, &mut gates);
    host(c, t, &mut gates);
    if let Some((wanted, origin)) = t.wanted {
        datastore(c, t, wanted, origin, &mut gates);
    }
    storage(c, t, &mut gates);
    pace(c, t, &mut gates);
    gates
}

fn policy(c: &Context<'_>, t: &Target<'_>, gates: &mut Vec<Gate>) {
    match c.config.mode {
        Mode::Watch => gates.push(Gate::ModeWatch),
        Mode::Propose if !t.confirmed => gates.push(Gate::NeedsPerson),
        Mode::Propose | Mode::Repair => {}
    }
    if c.leading_since_ms.is_none() {
        gates.push(Gate::NotLeader);
    }
    if c.step_open || c.journal.open.is_some() {
        gates.push(Gate::StepOpen);
    }
    if c.now.mono_ms.saturating_sub(c.observed.began_ms) > OBSERVED_FRESH_MS {
        gates.push(Gate::OldReading);
    }
    let allowed = match t.action.rung() {
        Rung::ReconfigureHa => c.config.allow_ha_reconfigure,
        Rung::Reconnect => c.config.allow_host_reconnect,
        Rung::ResetClient | Rung::Refresh | Rung::Mount => true,
    };
    if !allowed {
        gates.push(Gate::RungNotAllowed);
    }
    let left = c.config.repair_after_ms.saturating_sub(c.now.mono_ms.saturating_sub(t.since_ms));
    if left > 0 {
        gates.push(Gate::NotLongEnough { left_ms: left });
    }
}

fn host(c: &Context<'_>, t: &Target<'_>, gates: &mut Vec<Gate>) {
    let Some(host) = c.observed.hosts.get(t.action.host()) else {
        gates.push(Gate::HostNotConnected);
        return;
    };
    if host.connection != Connection::Connected {
        gates.push(Gate::HostNotConnected);
    }
    if host.maintenance {
        gates.push(Gate::HostInMaintenance);
    }
    if host.power != Power::On {
        gates.push(Gate::HostNotPoweredOn);
    }
    if let Some(with) = &host.busy_with {
        gates.push(Gate::HostBusy { with: with.clone() });
    }
    let (may, privilege) = match t.action.rung() {
        Rung::ResetClient => (true, ""),
        Rung::Refresh | Rung::Mount => (host.privileges.storage, "Host.Config.Storage"),
        Rung::ReconfigureHa | Rung::Reconnect => (host.privileges.connection, "Host.Config.Connection"),
    };
    if !may {
        gates.push(Gate::NoPrivilege { privilege: privilege.into() });
    }
    // The states of a cluster that is failing over, or is cut in two. A host alone may be `fdmUnreachable` for days.
    const FAILING_OVER: [&str; 5] =
        ["election", "networkPartitionedFromMaster", "networkIsolated", "hostDown", "initializationError"];
    let failing = c.observed.hosts.values().find_map(|h| {
        let state = h.ha_state.as_deref().filter(|s| FAILING_OVER.contains(s))?;
        (!h.maintenance).then(|| Gate::HaFailover { host: h.name.clone(), state: state.into() })
    });
    gates.extend(failing);
}

fn datastore(c: &Context<'_>, t: &Target<'_>, wanted: &Wanted, origin: Origin, gates: &mut Vec<Gate>) {
    if origin == Origin::Learned {
        gates.push(Gate::NotConfirmed);
    }
    let (missing, of) = count(c.matrix, &wanted.name, State::misses);
    if missing * 2 > of {
        gates.push(Gate::MostHostsMiss { missing, of });
    }
    let identity = wanted.identity();
    let twins: Vec<_> = c.observed.with_strings(&identity).collect();
    if twins.len() > 1 {
        gates.push(Gate::IdentityNotUnique { count: twins.len() });
    }
    if twins.iter().any(|(_, d)| d.maintenance) {
        gates.push(Gate::DatastoreInMaintenance);
    }
    if t.action.rung() == Rung::Mount {
        // A peer that uses it proves that strings, version and server are right.
        let healthy = |(h, name): &(HostRef, String)| name == &wanted.name && h != t.action.host();
        if !c.matrix.iter().any(|(key, cell)| healthy(key) && cell.state == State::Ok) {
            gates.push(Gate::NoHealthyPeer);
        }
        let other = |d: &&crate::observed::Datastore| d.name == wanted.name && d.identity.as_ref() != Some(&identity);
        if let Some(d) = c.observed.datastores.values().find(other) {
            let by = d.identity.as_ref().map_or("a datastore that is not NFS".into(), ToString::to_string);
            gates.push(Gate::NameTaken { by });
        }
    }
    let since = if origin == Origin::Declared { c.config.declared_wall_ms } else { 0 };
    let by_person = c.observed.removals.iter().find(|r| {
        let person = !r.user.is_empty() && r.user != c.config.user;
        person && &r.host == t.action.host() && r.datastore_name == wanted.name && r.wall_ms > since
    });
    if let Some(r) = by_person.filter(|_| !t.confirmed) {
        gates.push(Gate::RemovedByPerson { who: r.user.clone() });
    }
}

/// How long nothing is done after a failover: the configured hold, once for each failover of the last half hour. In a night of
/// failovers a quiet minute is not its end.
fn hold_ms(c: &Context<'_>) -> u64 {
    let failovers = c.our_side.map_or(1, |o| o.failovers.clamp(1, HOLDS_MAX));
    c.config.failover_hold_ms * u64::from(failovers)
}

fn storage(c: &Context<'_>, t: &Target<'_>, gates: &mut Vec<Gate>) {
    let hold = hold_ms(c);
    if let Some(since) = c.leading_since_ms {
        let left = hold.saturating_sub(c.now.mono_ms.saturating_sub(since));
        if left > 0 {
            gates.push(Gate::OurFailover { left_ms: left });
            return;
        }
    }
    let Some(ours) = c.our_side else {
        gates.push(Gate::OurSideUnknown);
        return;
    };
    if !ours.quorum {
        gates.push(Gate::OurQuorumLost);
    }
    if ours.quiet_ms < hold {
        gates.push(Gate::OurFailover { left_ms: hold - ours.quiet_ms });
    }
    let Some((wanted, _)) = t.wanted else { return };
    if ours.exports.iter().any(|e| e.server == wanted.server) {
        let export = ours.exports.iter().find(|e| e.server == wanted.server && e.path == wanted.path);
        if !export.is_some_and(|e| e.served) {
            gates.push(Gate::OurExportDown);
        } else if !export.is_some_and(|e| e.reachable) {
            gates.push(Gate::OurAddressUnreachable);
        }
    }
}

fn pace(c: &Context<'_>, t: &Target<'_>, gates: &mut Vec<Gate>) {
    let taken = || c.journal.steps.iter().filter(|s| s.proof != Proof::Abandoned);
    // A clock that was set back makes a step look future: it counts as just taken.
    let age = |wall_ms: i64| (c.now.wall_ms - wall_ms).max(0);
    let recent = taken().filter(|s| age(s.wall_ms) < HOUR_MS).count();
    if recent >= c.config.repairs_per_hour as usize {
        gates.push(Gate::BudgetSpent { per_hour: c.config.repairs_per_hour });
    }
    let datastore = t.wanted.map(|(w, _)| w.name.as_str());
    let tried = c.journal.tried(t.action.host(), datastore);
    let of_rung = tried.iter().filter(|s| s.action.rung() == t.action.rung() && s.proof != Proof::Abandoned);
    let failures = of_rung.clone().filter(|s| age(s.ended_wall_ms) < ATTEMPTS_FOR_MS).count();
    if failures >= ATTEMPTS_MAX && !t.confirmed {
        gates.push(Gate::AttemptsUsedUp { count: failures });
    }
    let doubles = (failures as u32).saturating_sub(1).min(COOL_DOWN_DOUBLES_MAX);
    let rung_left = taken()
        .rev()
        .find(|s| s.action.rung() == t.action.rung() && s.action.host() == t.action.host())
        .map_or(0, |s| (t.action.rung().cool_down_ms() << doubles) - age(s.ended_wall_ms));
    let any_left = taken().next_back().map_or(0, |s| BETWEEN_STEPS_MS - age(s.ended_wall_ms));
    let left = rung_left.max(any_left);
    if left > 0 {
        gates.push(Gate::CoolDown { left_ms: left as u64 });
    }
}

/// Hosts in such a state, of those that are meant to have a datastore: one in maintenance or powered off counts nowhere.
pub fn count(matrix: &BTreeMap<(HostRef, String), Cell>, name: &str, such: impl Fn(&State) -> bool) -> (usize, usize) {
    use crate::state::NotCurrent;
    let counted = |s: &State| !matches!(s, State::Unknown { why: NotCurrent::Maintenance | NotCurrent::NotPoweredOn });
    let cells = matrix.iter().filter(|((_, n), cell)| n == name && counted(&cell.state));
    let (mut some, mut of) = (0, 0);
    for (_, cell) in cells {
        of += 1;
        some += usize::from(such(&cell.state));
    }
    (some, of)
}
