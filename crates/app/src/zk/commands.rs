//! The commands, at the command line and in the shell alike.

use super::{acl, output};
use anyhow::{bail, Context};
use bytes::Bytes;
use std::io::Write;
use std::time::Duration;
use trivet_formats::client::{
    op, open_acl, Acl, CreateRequest, CreateTtlRequest, DeleteRequest, PathInt, PathOnly, PathWatch, ReconfigRequest,
    SetAclRequest, SetDataRequest, Stat, WatcherEvent,
};
use trivet_formats::{Jute, Reader};
use trivet_node::zk_session::{Session, SessionError};

/// Znodes that `deleteall` deletes, or `ls -R` lists; a command stops at this number.
const NODES_MAX: usize = 1_000_000;
const CONFIG: &str = "/zookeeper/config";
const QUOTA: &str = "/zookeeper/quota";
const NO_NODE: i32 = -101;

#[derive(clap::Subcommand, Debug)]
pub enum Line {
    /// Children of a node
    Ls {
        path: String,
        /// All below it
        #[arg(short = 'R')]
        recursive: bool,
        /// With its stat
        #[arg(short)]
        stat: bool,
    },
    /// Data of a node
    Get {
        path: String,
        /// With its stat
        #[arg(short)]
        stat: bool,
    },
    /// Changes a node's data
    Set {
        path: String,
        data: String,
        /// Only if this is its version
        #[arg(short)]
        version: Option<i32>,
    },
    /// Makes a node
    Create {
        path: String,
        data: Option<String>,
        /// SCHEME:ID:PERMISSIONS, with commas between several
        acl: Option<String>,
        /// The node ends with the session: with the shell, that is
        #[arg(short)]
        ephemeral: bool,
        #[arg(short)]
        sequential: bool,
        #[arg(short)]
        container: bool,
        /// Milliseconds without a change and a child after which it goes
        #[arg(short)]
        ttl: Option<i64>,
        /// Makes missing parents, too
        #[arg(short)]
        parents: bool,
    },
    /// Deletes a node that has no children
    Delete {
        path: String,
        #[arg(short)]
        version: Option<i32>,
    },
    /// Deletes a node and all below it
    Deleteall { path: String },
    /// Stat of a node
    Stat { path: String },
    /// Shows changes of a node and all below it, until it is stopped
    Watch {
        path: String,
        /// The node alone
        #[arg(long)]
        only: bool,
        /// Ends after this number of events
        #[arg(long)]
        count: Option<usize>,
    },
    /// Shows or changes a node's access list
    Acl { path: String, acl: Option<String> },
    /// Shows a node's quota, or sets it
    Quota {
        path: String,
        /// Nodes; -1 for no limit
        #[arg(short)]
        nodes: Option<i64>,
        /// Bytes; -1 for no limit
        #[arg(short)]
        bytes: Option<i64>,
        /// Beyond it requests are refused (with enforceQuota)
        #[arg(long)]
        hard: bool,
    },
    /// Members of the ensemble
    Config,
    /// Changes the members
    Reconfig {
        /// server.N=HOST:PORT:PORT;PORT
        #[arg(long)]
        add: Vec<String>,
        /// Numbers of servers
        #[arg(long)]
        remove: Vec<String>,
        /// All members, instead
        #[arg(long, conflicts_with_all = ["add", "remove"])]
        members: Option<String>,
        /// Only if this is the version of the list, in hexadecimal digits
        #[arg(short)]
        version: Option<String>,
    },
    /// Waits until the server has what was written before
    Sync { path: String },
    /// Adds credentials to the session
    Addauth { scheme: String, credentials: String },
    /// Shows the ids of this session
    Whoami,
}

pub struct Client {
    pub session: Session,
    /// Before every path.
    pub root: String,
    pub json: bool,
}

impl Client {
    fn path(&self, path: &str) -> anyhow::Result<String> {
        if !path.starts_with('/') {
            bail!("{path}: a path begins with /");
        }
        Ok(match (self.root.as_str(), path) {
            ("", path) => path.to_string(),
            (root, "/") => root.to_string(),
            (root, path) => format!("{root}{path}"),
        })
    }

    fn shown<'a>(&self, path: &'a str) -> &'a str {
        match path.strip_prefix(self.root.as_str()) {
            Some("") => "/",
            Some(rest) => rest,
            None => path,
        }
    }

    fn say(&self, json: serde_json::Value, text: impl FnOnce() -> String) {
        let text = if self.json { json.to_string() } else { text() };
        // A pipe that nobody reads any more ends nothing.
        let _ = writeln!(std::io::stdout(), "{text}");
    }

    pub fn carry_out(&mut self, line: &Line) -> anyhow::Result<()> {
        match line {
            Line::Ls { path, recursive, stat } => self.ls(path, *recursive, *stat),
            Line::Get { path, stat } => self.get(path, *stat),
            Line::Set { path, data, version } => {
                let data = Some(Bytes::copy_from_slice(data.as_bytes()));
                let body = SetDataRequest { path: self.path(path)?, data, version: version.unwrap_or(-1) }.to_vec();
                let stat = Stat::parse(&self.ask(op::SET_DATA, &body, path)?)?;
                self.say(output::stat_json(&stat), || format!("version {}", stat.version));
                Ok(())
            }
            Line::Create { path, data, acl, ephemeral, sequential, container, ttl, parents } => {
                let flags = match (ttl, container, ephemeral, sequential) {
                    (Some(_), false, false, false) => 5,
                    (Some(_), false, false, true) => 6,
                    (None, true, false, false) => 4,
                    (None, false, e, s) => i32::from(*e) + 2 * i32::from(*s),
                    _ => bail!("-e, -c and -t are kinds of nodes, and one node is of one kind"),
                };
                let acl = acl.as_deref().map(acl::parse).transpose().map_err(anyhow::Error::msg)?;
                if *parents {
                    self.make_parents(path)?;
                }
                self.create(path, data.as_deref(), acl.unwrap_or_else(open_acl), flags, *ttl)
            }
            Line::Delete { path, version } => {
                let body = DeleteRequest { path: self.path(path)?, version: version.unwrap_or(-1) }.to_vec();
                self.ask(op::DELETE, &body, path).map(drop)
            }
            Line::Deleteall { path } => self.delete_all(path),
            Line::Stat { path } => {
                let body = PathWatch { path: self.path(path)?, watch: false }.to_vec();
                let stat = Stat::parse(&self.ask(op::EXISTS, &body, path)?)?;
                self.say(output::stat_json(&stat), || output::stat_text(&stat));
                Ok(())
            }
            Line::Watch { path, only, count } => self.watch(path, *only, *count),
            Line::Acl { path, acl } => self.acl(path, acl.as_deref()),
            Line::Quota { path, nodes, bytes, hard } => self.quota(path, *nodes, *bytes, *hard),
            Line::Config => self.config(),
            Line::Reconfig { add, remove, members, version } => {
                let current = version.as_deref().map(|v| i64::from_str_radix(v.trim_start_matches("0x"), 16));
                let current = current.transpose().context("-v: hexadecimal digits are expected")?.unwrap_or(-1);
                let (joining, leaving) = (add.join(","), remove.join(","));
                let body = ReconfigRequest { joining, leaving, members: members.clone().unwrap_or_default(), current };
                let answer = self.ask(op::RECONFIG, &body.to_vec(), CONFIG)?;
                self.say_config(&answer)
            }
            Line::Sync { path } => self.ask(op::SYNC, &self.path(path)?.to_vec(), path).map(drop),
            Line::Addauth { scheme, credentials } => Ok(self.session.add_auth(scheme, credentials)?),
            Line::Whoami => self.who_am_i(),
        }
    }

    fn ask(&mut self, op: i32, body: &[u8], what: &str) -> anyhow::Result<Vec<u8>> {
        self.session.ask(op, body).map_err(|e| anyhow::Error::new(e).context(what.to_string()))
    }

    /// Data and stat.
    fn data(&mut self, path: &str) -> anyhow::Result<(Bytes, Stat)> {
        let body = PathWatch { path: path.into(), watch: false }.to_vec();
        let answer = self.ask(op::GET_DATA, &body, path)?;
        let mut r = Reader::new(&answer);
        let data = r.buffer()?.map(Bytes::copy_from_slice);
        Ok((data.unwrap_or_default(), Stat::get(&mut r)?))
    }

    fn children(&mut self, path: &str) -> anyhow::Result<(Vec<String>, Stat)> {
        let body = PathWatch { path: path.into(), watch: false }.to_vec();
        let answer = self.ask(op::GET_CHILDREN2, &body, path)?;
        let mut r = Reader::new(&answer);
        let mut names = Vec::<String>::get(&mut r)?;
        names.sort();
        Ok((names, Stat::get(&mut r)?))
    }

    /// All below a node, parents first. What goes meanwhile is left out.
    fn all_below(&mut self, path: &str) -> anyhow::Result<Vec<String>> {
        let mut out = vec![path.to_string()];
        let mut at = 0;
        while at < out.len() {
            let children = match self.children(&out[at]) {
                Ok((names, _)) => names,
                Err(e) if at > 0 && is_code(&e, NO_NODE) => Vec::new(),
                Err(e) => return Err(e),
            };
            let parent = out[at].trim_end_matches('/').to_string();
            out.extend(children.iter().map(|c| format!("{parent}/{c}")));
            if out.len() > NODES_MAX {
                bail!("{path}: more than {NODES_MAX} nodes; take its children one by one");
            }
            at += 1;
        }
        Ok(out)
    }

    fn ls(&mut self, path: &str, recursive: bool, stat: bool) -> anyhow::Result<()> {
        let full = self.path(path)?;
        if recursive {
            let mut all: Vec<String> = self.all_below(&full)?.iter().map(|p| self.shown(p).to_string()).collect();
            all.sort();
            self.say(serde_json::json!(all), || all.join("\n"));
            return Ok(());
        }
        let (names, of_node) = self.children(&full)?;
        let json = if stat {
            serde_json::json!({ "children": names, "stat": output::stat_json(&of_node) })
        } else {
            serde_json::json!(names)
        };
        self.say(json, || {
            let list = format!("[{}]", names.join(", "));
            if stat {
                format!("{list}\n{}", output::stat_text(&of_node))
            } else {
                list
            }
        });
        Ok(())
    }

    fn get(&mut self, path: &str, stat: bool) -> anyhow::Result<()> {
        let (data, of_node) = self.data(&self.path(path)?)?;
        let mut json = output::data_json(&data);
        json["stat"] = output::stat_json(&of_node);
        self.say(json, || {
            let text = String::from_utf8_lossy(&data).into_owned();
            if stat {
                format!("{text}\n{}", output::stat_text(&of_node))
            } else {
                text
            }
        });
        Ok(())
    }

    fn create(
        &mut self,
        path: &str,
        data: Option<&str>,
        acl: Vec<Acl>,
        flags: i32,
        ttl: Option<i64>,
    ) -> anyhow::Result<()> {
        let data = data.map(|d| Bytes::copy_from_slice(d.as_bytes()));
        let full = self.path(path)?;
        let (op, body) = match ttl {
            Some(ttl) => (op::CREATE_TTL, CreateTtlRequest { path: full, data, acl, flags, ttl }.to_vec()),
            None => {
                let op = if flags == 4 { op::CREATE_CONTAINER } else { op::CREATE2 };
                (op, CreateRequest { path: full, data, acl, flags }.to_vec())
            }
        };
        let answer = self.ask(op, &body, path)?;
        let made = String::get(&mut Reader::new(&answer))?;
        let made = self.shown(&made).to_string();
        self.say(serde_json::json!({ "path": made }), || format!("Created {made}"));
        Ok(())
    }

    fn make_parents(&mut self, path: &str) -> anyhow::Result<()> {
        for (at, _) in path.match_indices('/').skip(1) {
            let full = self.path(&path[..at])?;
            let body = CreateRequest { path: full, data: None, acl: open_acl(), flags: 0 }.to_vec();
            match self.ask(op::CREATE, &body, &path[..at]) {
                Err(e) if !is_code(&e, -110) => return Err(e),
                _ => {}
            }
        }
        Ok(())
    }

    fn delete_all(&mut self, path: &str) -> anyhow::Result<()> {
        let full = self.path(path)?;
        if full == "/" || full.starts_with("/zookeeper") {
            bail!("{path}: the root and /zookeeper stay");
        }
        // Children stand behind their parents.
        for node in self.all_below(&full)?.iter().rev() {
            let body = DeleteRequest { path: node.clone(), version: -1 }.to_vec();
            match self.ask(op::DELETE, &body, node) {
                Err(e) if !is_code(&e, NO_NODE) => return Err(e),
                _ => {}
            }
        }
        Ok(())
    }

    fn watch(&mut self, path: &str, only: bool, count: Option<usize>) -> anyhow::Result<()> {
        let mode = if only { 0 } else { 1 };
        let body = PathInt { path: self.path(path)?, value: mode }.to_vec();
        self.ask(op::ADD_WATCH, &body, path)?;
        let mut left = count.unwrap_or(usize::MAX);
        let pause = Duration::from_millis(self.session.timeout_ms.max(3) as u64 / 3);
        while left > 0 {
            if let Some(event) = self.session.event(pause)? {
                self.say_event(&event);
                left -= 1;
            }
        }
        Ok(())
    }

    pub fn say_event(&self, event: &WatcherEvent) {
        let (kind, path) = (output::event_name(event.kind), self.shown(&event.path).to_string());
        self.say(serde_json::json!({ "event": kind, "path": path }), || format!("{kind} {path}"));
    }

    fn acl(&mut self, path: &str, new: Option<&str>) -> anyhow::Result<()> {
        let full = self.path(path)?;
        if let Some(text) = new {
            let acl = acl::parse(text).map_err(anyhow::Error::msg)?;
            let body = SetAclRequest { path: full, acl, version: -1 }.to_vec();
            return self.ask(op::SET_ACL, &body, path).map(drop);
        }
        let answer = self.ask(op::GET_ACL, &PathOnly { path: full }.to_vec(), path)?;
        let list: Vec<String> = Vec::<Acl>::get(&mut Reader::new(&answer))?.iter().map(acl::text).collect();
        self.say(serde_json::json!(list), || list.join("\n"));
        Ok(())
    }

    /// Quotas are nodes below /zookeeper/quota: `count=1,bytes=-1=;byteHardLimit=...`.
    //= zookeeper 3.9 StatsTrack.java, SetQuotaCommand.java
    fn quota(&mut self, path: &str, nodes: Option<i64>, bytes: Option<i64>, hard: bool) -> anyhow::Result<()> {
        let node = format!("{QUOTA}{}", self.path(path)?.trim_end_matches('/'));
        let limits = format!("{node}/zookeeper_limits");
        if nodes.is_none() && bytes.is_none() {
            let show = |data: &Bytes| String::from_utf8_lossy(data).into_owned();
            let limits = show(&self.data(&limits).context("it has no quota")?.0);
            let used = self.data(&format!("{node}/zookeeper_stats")).map(|(d, _)| show(&d)).unwrap_or_default();
            self.say(serde_json::json!({ "limits": limits, "used": used }), || {
                format!("limits {limits}\nused   {used}")
            });
            return Ok(());
        }
        let (n, b) = (nodes.unwrap_or(-1), bytes.unwrap_or(-1));
        let text = match hard {
            false => format!("count={n},bytes={b}=;byteHardLimit=-1;countHardLimit=-1"),
            true => format!("count=-1,bytes=-1=;byteHardLimit={b};countHardLimit={n}"),
        };
        let stats = format!("{node}/zookeeper_stats");
        for (at, _) in limits.match_indices('/').skip(3) {
            self.ensure(&limits[..at], "")?;
        }
        self.ensure(&limits, &text)?;
        self.ensure(&stats, "count=0,bytes=0")?;
        let data = Some(Bytes::from(text));
        let body = SetDataRequest { path: limits, data, version: -1 }.to_vec();
        self.ask(op::SET_DATA, &body, path).map(drop)
    }

    fn ensure(&mut self, path: &str, data: &str) -> anyhow::Result<()> {
        let data = Some(Bytes::copy_from_slice(data.as_bytes()));
        let body = CreateRequest { path: path.into(), data, acl: open_acl(), flags: 0 }.to_vec();
        match self.ask(op::CREATE, &body, path) {
            Err(e) if !is_code(&e, -110) => Err(e),
            _ => Ok(()),
        }
    }

    fn config(&mut self) -> anyhow::Result<()> {
        let (data, _) = self.data(CONFIG)?;
        let text = String::from_utf8_lossy(&data).into_owned();
        self.say(serde_json::json!({ "config": text.lines().collect::<Vec<_>>() }), || text.trim_end().to_string());
        Ok(())
    }

    fn say_config(&self, answer: &[u8]) -> anyhow::Result<()> {
        let data = Reader::new(answer).buffer()?.unwrap_or_default();
        let text = String::from_utf8_lossy(data).into_owned();
        self.say(serde_json::json!({ "config": text.lines().collect::<Vec<_>>() }), || text.trim_end().to_string());
        Ok(())
    }

    fn who_am_i(&mut self) -> anyhow::Result<()> {
        let answer = self.ask(op::WHO_AM_I, &[], "whoami")?;
        let ids = Vec::<trivet_formats::client::Id>::get(&mut Reader::new(&answer))?;
        let json: Vec<_> = ids.iter().map(|i| serde_json::json!({ "scheme": i.scheme, "user": i.id })).collect();
        self.say(json.into(), || ids.iter().map(|i| format!("{}: {}", i.scheme, i.id)).collect::<Vec<_>>().join("\n"));
        Ok(())
    }
}

fn is_code(e: &anyhow::Error, code: i32) -> bool {
    matches!(e.downcast_ref::<SessionError>(), Some(SessionError::Code(c)) if *c == code)
}
