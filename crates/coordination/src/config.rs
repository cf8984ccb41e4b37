//! The settings of a server.

use crate::groups::Groups;
use std::collections::BTreeMap;
use trivet_formats::snapshot::Trailer;
use trivet_formats::ServerId;

/// A member of the ensemble.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// An observer: it follows without a vote.
    pub observer: bool,
}

/// Limits between servers of ours; towards Apache's the protocol's own (tickTime, initLimit,
/// syncLimit) hold.
#[derive(Debug, Clone)]
pub struct FastLimits {
    /// Milliseconds between two repetitions of a vote while LOOKING.
    pub resend_ms: u64,
    /// How long to wait for votes that are missing when a quorum already agrees.
    pub finalize_ms: u64,
    /// Milliseconds between two pings of a leader to its learners.
    pub ping_ms: u64,
    /// Milliseconds of silence after which a Trivet peer counts as gone, if its path is usually quick; longer, up to
    /// `silence_max_ms`, where gaps between its probes are usual.
    pub silence_ms: u64,
    /// Upper bound of the silence limit for a Trivet peer in milliseconds, however irregular its path.
    pub silence_max_ms: u64,
    /// Milliseconds for which a server with lossy paths, or that just lost leadership, withholds its candidacy.
    pub hold_back_ms: u64,
    /// An elected leader and its followers have met within this, or the votes were old.
    pub meet_ms: u64,
    /// A leader without a quorum of followers, and a follower without an answer, give up after this.
    pub establish_ms: u64,
    /// Pause between two attempts to reach the leader.
    pub redial_ms: u64,
    /// Milliseconds for which clients stay connected while there is no leader.
    pub hold_clients_ms: u64,
}

impl Default for FastLimits {
    fn default() -> Self {
        FastLimits {
            resend_ms: 150,
            finalize_ms: 150,
            ping_ms: 50,
            silence_ms: 500,
            silence_max_ms: 1_000,
            hold_back_ms: 1_500,
            meet_ms: 500,
            establish_ms: 1_000,
            redial_ms: 50,
            hold_clients_ms: 4_000,
        }
    }
}

/// How clients show who they are, and what happens to those that do not.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Auth {
    /// Users of SASL DIGEST-MD5 with their passwords. None: the server has no SASL.
    pub sasl_users: Option<trivet_security::Users>,
    /// Names of SASL that are super users (`superUser`, `superUser.N`).
    pub sasl_super_users: Vec<String>,
    /// The name in a certificate that is a super user (`X509AuthenticationProvider.superUser`).
    pub x509_super_user: Option<String>,
    /// The hash of the digest scheme (`DigestAuthenticationProvider.digestAlg`).
    pub digest_hash: trivet_security::PasswordHash,
    /// Only clients with one of these schemes are served (`enforce.auth.schemes`, `sessionRequireClientSASLAuth`); empty: all.
    pub required_schemes: Vec<String>,
    /// A client whose SASL fails is served without it (`allowSaslFailedClients`).
    pub sasl_may_fail: bool,
}

impl std::fmt::Debug for Auth {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Passwords must not get into a log.
        let users = self.sasl_users.as_ref().map(std::collections::BTreeMap::len);
        write!(f, "Auth {{ sasl users: {users:?}, required: {:?} }}", self.required_schemes)
    }
}

/// The members of the configuration that a reconfig has proposed.
#[derive(Debug, Clone)]
pub struct NextConfig {
    /// The members, this server included where it stays.
    pub members: BTreeMap<ServerId, Member>,
    /// Groups and weights of the voters; none: a majority decides.
    pub groups: Groups,
    /// `server.N=...` lines and `version=`, as peers exchange them.
    pub text: String,
}

/// The settings of a server, which hold until it restarts; a reconfig replaces the list of members.
#[derive(Debug, Clone)]
pub struct Config {
    /// The number of this server (`myid`).
    pub id: ServerId,
    /// All members, this server included. One voter alone is a standalone server.
    pub members: BTreeMap<ServerId, Member>,
    /// Groups and weights of the voters; none: a majority decides.
    pub groups: Groups,
    /// `server.N=...` lines and `version=`, as peers exchange them.
    pub config_text: String,
    /// The version in that text: the zxid of the reconfig that made it, 0 for one from a file.
    pub config_version: i64,
    /// The configuration of a reconfig that is in the log and not known to be committed; until then a quorum needs a majority
    /// of both lists.
    pub next: Option<NextConfig>,
    /// Milliseconds of a tick (`tickTime`), the unit of the next two.
    pub tick_ms: u64,
    /// Ticks within which a learner has to have connected and got the leader's history (`initLimit`).
    pub init_limit: u64,
    /// Ticks of silence between a leader and a learner that end their connection (`syncLimit`).
    pub sync_limit: u64,
    /// The shortest session time-out that a client gets, in milliseconds (`minSessionTimeout`).
    pub min_session_timeout_ms: i32,
    /// The longest session time-out that a client gets, in milliseconds (`maxSessionTimeout`).
    pub max_session_timeout_ms: i32,
    /// Transactions after which a snapshot is written (`snapCount`).
    pub snap_count: u64,
    /// Records behind the seal of snapshots' files (`digest.enabled`, `serializeLastProcessedZxid.enabled`). The former also
    /// says whether this server's proposals have digests while an Apache server learns from it.
    pub snapshot_trailer: Trailer,
    /// Approximate bytes of a part of a snapshot on its way to the disk or to a learner; the server does nothing else while
    /// it makes one.
    pub snapshot_part_bytes: usize,
    /// Transactions of an epoch that a leader proposes at most; then it steps down, so that the next epoch begins before the
    /// counter wraps.
    pub counter_max: u32,
    /// Committed transactions kept in memory, for learners that come back; older ones are in the log files.
    pub ring_bytes_max: usize,
    /// Limits between servers of ours.
    pub fast: FastLimits,
    /// Nodes of the types container and TTL may be made.
    pub extended_types: bool,
    /// `user:base64(sha1)` of each super user.
    pub super_digests: Vec<String>,
    /// Schemes by which clients can authenticate, beside their address.
    pub auth_schemes: Vec<String>,
    /// How clients show who they are.
    pub auth: Auth,
    /// Four-letter words that are answered; `*` for all.
    pub four_letter_words: Vec<String>,
    /// Four-letter words that are answered to processes of this host, beside those.
    pub four_letter_words_of_host: Vec<String>,
    /// Lets administrators change the members at run time; nobody may, unless this is set (`reconfigEnabled`).
    pub reconfig: bool,
    /// A reconfig may give a server several addresses (`multiAddress.enabled`).
    pub several_addresses: bool,
    /// Permissions are not checked (`skipACL`).
    pub skip_acl: bool,
    /// Requests beyond hard quotas are refused (`enforceQuota`).
    pub enforce_quota: bool,
    /// Clients that asked for it may read while there is no leader (`readonlymode.enabled`).
    pub read_only_mode: bool,
    /// How often containers and TTL nodes are looked over (`znode.container.checkIntervalMs`).
    pub container_check_ms: u64,
    /// Milliseconds after which a container that never had a child is deleted; 0: never
    /// (`znode.container.maxNeverUsedIntervalMs`).
    pub container_never_used_ms: i64,
    /// While clients have more requests open than this together, those that have one open are not read from; servers of
    /// an ensemble share it (`globalOutstandingLimit`).
    pub outstanding_max: usize,
    /// A server without any data is one of a new ensemble, and votes (`zookeeper.db.autocreate`). Where it is not known to
    /// be, it may have lost what it acknowledged: see [`crate::election`].
    pub trust_empty: bool,
    /// Observers reach the leader through its followers, which pass their connections on (`observerMasterPort`).
    pub observer_masters: bool,
    /// A server that is alone is an ensemble of one voter, which others can join (`standaloneEnabled=false`).
    pub ensemble_of_one: bool,
    /// Apache servers have sessions that nobody else knows, and send their writes (`localSessionsEnabled`). Those that begin
    /// here are the ensemble's all the same.
    pub local_sessions: bool,
    /// The user that this process runs as, where changes are written to the audit log.
    pub audit_user: Option<String>,
    /// A fault to plant, in tests of the simulator only.
    #[doc(hidden)]
    pub bug: Option<Bug>,
}

/// Mistakes that the simulator must find.
#[doc(hidden)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bug {
    /// NEWLEADER is acknowledged before the transactions of the DIFF are on disk.
    AckNewLeaderEarly,
    /// A leader counts itself for its epoch before that is on disk.
    CountOwnEpochEarly,
    /// A proposal is acknowledged before it is on disk.
    AckProposalEarly,
    /// A follower records the new epoch when it hears of it, before it has the history that goes with it.
    EpochBeforeHistory,
    /// A reconfig that is not committed yet counts for nothing.
    OldMajorityOnly,
    /// A follower forgets to cut its log on disk when the leader says TRUNC.
    TruncateInMemoryOnly,
    /// Requests that a session sent to its old server are carried out after it moved to another one.
    MovesForgotten,
    /// A follower takes for committed what is on its leader's disk, whatever is on its own.
    CommitByLeaderAlone,
    /// While leadership is about to move, reads wait as well, and with them what comes after them.
    ReadsWaitForHandOver,
    /// A follower puts its own time into nodes, in place of the leader's.
    OwnClock,
    /// A server that lost its data votes as one of a new ensemble does.
    EmptyVotes,
    /// A leader commits what a majority has, where groups and weights say otherwise.
    CommitByMajority,
}

impl Config {
    /// Apache's defaults, for a server with these members.
    pub fn new(id: ServerId, members: BTreeMap<ServerId, Member>) -> Self {
        Config {
            id,
            members,
            groups: Groups::default(),
            config_text: "version=0".into(),
            config_version: 0,
            next: None,
            tick_ms: 3_000,
            init_limit: 10,
            sync_limit: 5,
            min_session_timeout_ms: 6_000,
            max_session_timeout_ms: 60_000,
            snap_count: 100_000,
            snapshot_trailer: Trailer::default(),
            snapshot_part_bytes: 256 << 10,
            counter_max: 0xffff_fffe,
            ring_bytes_max: 8 << 20,
            fast: FastLimits::default(),
            extended_types: false,
            super_digests: Vec::new(),
            auth_schemes: vec!["digest".into()],
            auth: Auth::default(),
            four_letter_words: vec!["srvr".into()],
            four_letter_words_of_host: Vec::new(),
            reconfig: false,
            several_addresses: false,
            skip_acl: false,
            enforce_quota: false,
            read_only_mode: false,
            container_check_ms: 60_000,
            container_never_used_ms: 0,
            outstanding_max: 1_000,
            trust_empty: true,
            observer_masters: false,
            ensemble_of_one: false,
            local_sessions: false,
            audit_user: None,
            bug: None,
        }
    }

    /// The voters of the members' list and of the list that may follow it.
    pub fn voters(&self) -> impl Iterator<Item = ServerId> + '_ {
        let next = self.next.iter().flat_map(|n| &n.members);
        let next = next.filter(|(id, m)| !m.observer && !votes(&self.members, **id));
        self.members.iter().filter(|(_, m)| !m.observer).chain(next).map(|(id, _)| *id)
    }
    /// Whether the server votes in the list that holds, or in the one that may follow it.
    pub fn is_voter(&self, id: ServerId) -> bool {
        votes(&self.members, id) || self.next.as_ref().is_some_and(|n| votes(&n.members, id))
    }
    /// In the list that holds.
    pub fn votes_now(&self, id: ServerId) -> bool {
        votes(&self.members, id)
    }
    /// In the list that holds, and in the one that may follow it.
    pub fn votes_throughout(&self, id: ServerId) -> bool {
        votes(&self.members, id) && self.next.as_ref().is_none_or(|n| votes(&n.members, id))
    }
    /// Whether the server is in one of the lists.
    pub fn is_member(&self, id: ServerId) -> bool {
        self.members.contains_key(&id) || self.next.as_ref().is_some_and(|n| n.members.contains_key(&id))
    }
    /// Alone, and not to be joined. (The one member of a list that this server is not in is another one.)
    pub fn standalone(&self) -> bool {
        self.members.keys().all(|id| *id == self.id) && self.next.is_none() && !self.ensemble_of_one
    }
    /// The voters whose vote counts for something: who can be elected, and whom an election waits for.
    pub fn electable(&self) -> impl Iterator<Item = ServerId> + '_ {
        self.voters().filter(|id| self.is_electable(*id))
    }
    /// Whether the server may lead: a voter whose weight is above 0, in either list.
    pub fn is_electable(&self, id: ServerId) -> bool {
        let weighs = |members, groups: &Groups| votes(members, id) && (groups.is_empty() || groups.weight(id) > 0);
        weighs(&self.members, &self.groups) || self.next.as_ref().is_some_and(|n| weighs(&n.members, &n.groups))
    }
    /// Whether these servers are a quorum of the voters, of both lists where there are two: more than half of them, or
    /// what their groups and weights say.
    pub fn is_quorum<'a>(&self, ids: impl IntoIterator<Item = &'a ServerId>) -> bool {
        let grouped = |groups: &Groups| !groups.is_empty();
        if grouped(&self.groups) || self.next.as_ref().is_some_and(|n| grouped(&n.groups)) {
            let ids: Vec<ServerId> = ids.into_iter().copied().collect();
            let of_next = |n: &NextConfig| is_quorum_of(&n.members, &n.groups, &ids);
            return is_quorum_of(&self.members, &self.groups, &ids) && self.next.as_ref().is_none_or(of_next);
        }
        self.is_majority(ids)
    }
    /// Whether a proposal that these servers have is committed.
    pub(crate) fn commits(&self, acks: &[ServerId]) -> bool {
        match self.bug {
            Some(Bug::CommitByMajority) => self.is_majority(acks),
            _ => self.is_quorum(acks),
        }
    }
    // Asked for each acknowledgement: without groups, nothing is allocated.
    fn is_majority<'a>(&self, ids: impl IntoIterator<Item = &'a ServerId>) -> bool {
        let next = self.next.as_ref().map(|n| &n.members);
        let (mut count, mut next_count) = (0, 0);
        for id in ids {
            count += usize::from(votes(&self.members, *id));
            next_count += usize::from(next.is_some_and(|m| votes(m, *id)));
        }
        count * 2 > voters_in(&self.members) && next.is_none_or(|m| next_count * 2 > voters_in(m))
    }
}

fn votes(members: &BTreeMap<ServerId, Member>, id: ServerId) -> bool {
    members.get(&id).is_some_and(|m| !m.observer)
}
/// Whether these servers, each there once, are a quorum of one list.
pub(crate) fn is_quorum_of(members: &BTreeMap<ServerId, Member>, groups: &Groups, ids: &[ServerId]) -> bool {
    let agreeing = ids.iter().copied().filter(|id| votes(members, *id));
    match groups.is_empty() {
        true => agreeing.count() * 2 > voters_in(members),
        false => groups.is_quorum(agreeing),
    }
}

fn voters_in(members: &BTreeMap<ServerId, Member>) -> usize {
    members.values().filter(|m| !m.observer).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_is_to_join_another_one_is_not_alone() {
        let members = |ids: &[i64]| ids.iter().map(|i| (ServerId(*i), Member { observer: false })).collect();
        let alone = |id, ids: &[i64]| Config::new(ServerId(id), members(ids)).standalone();
        // Found by the lab alone.py: the second server led by itself when the first one was gone.
        assert!(alone(1, &[1]) && alone(1, &[]) && !alone(2, &[1]) && !alone(1, &[1, 2]));
        let first = Config { ensemble_of_one: true, ..Config::new(ServerId(1), members(&[1])) };
        assert!(!first.standalone() && first.is_quorum(&[ServerId(1)]));
    }

    #[test]
    fn while_members_change_both_majorities_are_needed() {
        let members = |ids: &[i64]| ids.iter().map(|i| (ServerId(*i), Member { observer: false })).collect();
        let mut cfg = Config::new(ServerId(1), members(&[1, 2, 3]));
        let quorum = |cfg: &Config, ids: &[i64]| cfg.is_quorum(&ids.iter().map(|i| ServerId(*i)).collect::<Vec<_>>());
        assert!(quorum(&cfg, &[1, 2]) && !quorum(&cfg, &[1, 4, 5]));
        let next = |groups| Some(NextConfig { members: members(&[3, 4, 5]), groups, text: String::new() });
        cfg.next = next(Groups::default());
        assert!(!quorum(&cfg, &[1, 2]) && !quorum(&cfg, &[3, 4, 5]) && quorum(&cfg, &[1, 3, 4]));
        assert_eq!(cfg.voters().count(), 5);
        // Groups of the list that may follow count for that one, and for nothing else.
        let mut heavy = Groups::default();
        heavy.add("group.1", "3:4:5").unwrap();
        heavy.add("weight.3", "9").unwrap();
        heavy.add("weight.5", "0").unwrap();
        heavy.complete(&[3, 4, 5].map(ServerId).into()).unwrap();
        cfg.next = next(heavy.clone());
        assert!(!quorum(&cfg, &[1, 2, 4, 5]) && quorum(&cfg, &[1, 3]) && !quorum(&cfg, &[3]));
        assert!(cfg.is_electable(ServerId(3)) && !cfg.is_electable(ServerId(5)) && cfg.is_electable(ServerId(1)));
        cfg.groups = heavy;
        cfg.members = members(&[3, 4, 5]);
        cfg.next = None;
        assert!(quorum(&cfg, &[3]) && !quorum(&cfg, &[4, 5]) && !quorum(&cfg, &[1, 2]));
        assert_eq!(cfg.electable().count(), 2);
    }
}
