//! Protocol tests that read as conversations.
//!
//! A transcript is a text file in `crates/sim/transcripts`. Comments say what a step is for, commands drive the cores that
//! ship, and below each block of commands stands the answer: which message went where, what was handed to a disk, what
//! became durable, who changed its role. The scripts are written by hand, the answers by `cargo xtask transcripts`; the test
//! `transcripts` runs every script again and compares. Nothing in a run depends on a clock, a thread or a random number.
//!
//! [`script`] reads and writes the files. The machines: [`ensemble`] is an ensemble of ZooKeeper servers, [`cluster`] a file with its
//! owners, replicas and metad's records, [`metads`] the metads with the ensemble that keeps their journal.

pub mod cluster;
pub mod ensemble;
pub mod metads;
pub mod script;

use script::{Machine, ScriptError};
use std::path::{Path, PathBuf};

/// A file of `crates/sim/transcripts`.
pub struct Transcript {
    /// The absolute path of the file.
    pub path: PathBuf,
    /// Its text as it is checked in.
    pub text: String,
    machine: fn() -> Box<dyn Machine>,
}

impl Transcript {
    /// Runs the script, and returns the file as it has to be.
    ///
    /// # Errors
    /// A command is not known or cannot be carried out: the line and the reason.
    pub fn run(&self) -> Result<String, ScriptError> {
        script::transcribe(&self.text, (self.machine)().as_mut())
    }
}

/// Every transcript, in the order of their paths.
///
/// # Errors
/// A folder or a file cannot be read.
pub fn all() -> std::io::Result<Vec<Transcript>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("transcripts");
    let mut out = read(&root.join("coordination"), || Box::new(ensemble::Ensemble::default()))?;
    out.extend(read(&root.join("storage"), || Box::new(cluster::Cluster::default()))?);
    out.extend(read(&root.join("metad"), || Box::new(metads::Metads::default()))?);
    out.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(out)
}

fn read(folder: &Path, machine: fn() -> Box<dyn Machine>) -> std::io::Result<Vec<Transcript>> {
    let mut out = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|e| e == "txt") {
            out.push(Transcript { text: std::fs::read_to_string(&path)?, path, machine });
        }
    }
    Ok(out)
}
