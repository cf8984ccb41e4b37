//! How many files this process may have open at a time, and errors that say so.

use crate::files::OpenFailed;
use rustix::process::{getrlimit, setrlimit, Resource, Rlimit};
use std::io;

/// The soft limit is raised to the hard one, and to no more than this many files: nothing here needs more, and
/// child processes that close every possible descriptor would take long.
const WANTED_MAX: u64 = 65_536;

/// Raises the soft limit of open files as far as that is allowed; returns what it is then.
pub fn raise_limit() -> u64 {
    let now = getrlimit(Resource::Nofile);
    let soft = now.current.unwrap_or(u64::MAX);
    let wanted = now.maximum.unwrap_or(u64::MAX).min(WANTED_MAX);
    if wanted > soft {
        // A refusal leaves the limit as it was; what is opened stays within it.
        let _ = setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum: now.maximum });
    }
    limit()
}

/// The soft limit of open files.
pub fn limit() -> u64 {
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// Adds the limit to an error that means that it is reached.
pub fn explain(e: io::Error) -> io::Error {
    let inner = e.get_ref().and_then(|i| i.downcast_ref::<OpenFailed>());
    let code = inner.map_or(e.raw_os_error(), |i| i.e.raw_os_error());
    match code.map(rustix::io::Errno::from_raw_os_error) {
        Some(rustix::io::Errno::MFILE) => io::Error::new(
            e.kind(),
            format!("{e}: this process may have {} files open; raise its limit (`ulimit -n`, LimitNOFILE=)", limit()),
        ),
        _ => e,
    }
}
