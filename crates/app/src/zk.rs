//! `trivet zk`: a ZooKeeper ensemble, Apache's or ours, from a terminal: one command, or a shell.

mod acl;
mod commands;
mod output;
mod shell;

use commands::Line;
use std::path::PathBuf;
use trivet_node::coordination::tls::StoreFile;
use trivet_node::zk_credentials::Credentials;
use trivet_node::zk_session::{Access, Session};

/// The server that is asked where none is named.
const SERVER: &str = "127.0.0.1:2181";

#[derive(clap::Args)]
pub struct Args {
    /// Servers, as HOST:PORT with commas between them. A path behind them is where all paths begin [default: 127.0.0.1:2181]
    #[arg(long, global = true)]
    server: Option<String>,
    /// The same, in front of the command: `-s` behind it is an option of `ls`
    #[arg(short = 's', value_name = "SERVER", conflicts_with = "server")]
    server_before: Option<String>,
    /// Answers as JSON
    #[arg(long, global = true)]
    json: bool,
    /// TLS: the certificates to trust (a PEM, PKCS12 or JKS store)
    #[arg(long, value_name = "FILE")]
    trust_store: Option<PathBuf>,
    /// TLS: the own key and certificate (a PEM, PKCS12 or JKS store)
    #[arg(long, value_name = "FILE", requires = "trust_store")]
    key_store: Option<PathBuf>,
    /// A file with the password of both stores
    #[arg(long, value_name = "FILE")]
    store_password_file: Option<PathBuf>,
    /// TLS: take a certificate that names another host
    #[arg(long)]
    any_host: bool,
    /// SASL DIGEST-MD5: the user; the password is read from --sasl-password-file
    #[arg(long, value_name = "USER", requires = "sasl_password_file")]
    sasl_user: Option<String>,
    #[arg(long, value_name = "FILE")]
    sasl_password_file: Option<PathBuf>,
    /// SCHEME:CREDENTIALS, as addauth takes them: digest:user:password. Seen in the list of processes; the shell's addauth is not
    #[arg(long, value_name = "AUTH")]
    auth: Vec<String>,
    /// A node.toml, or the folder of `trivet up`: that cluster's servers, with its own user, who may do everything
    #[arg(long, global = true, value_name = "PATH")]
    cluster: Option<PathBuf>,
    /// The session's time-out in milliseconds
    #[arg(long, global = true, default_value_t = 30_000)]
    timeout: i32,
    #[command(subcommand)]
    command: Option<Line>,
}

pub fn run(args: &Args) -> anyhow::Result<()> {
    let given = args.server.as_deref().or(args.server_before.as_deref());
    anyhow::ensure!(
        given.is_none() || args.cluster.is_none(),
        "--cluster names the servers itself; leave --server out"
    );
    let given = given.unwrap_or(SERVER);
    let (servers, root) = match given.split_once('/') {
        Some((servers, root)) => (servers, format!("/{}", root.trim_end_matches('/'))),
        None => (given, String::new()),
    };
    let root = if root == "/" { String::new() } else { root };
    let secret = |file: &PathBuf| -> anyhow::Result<String> {
        let text = std::fs::read_to_string(file).map_err(|e| anyhow::anyhow!("cannot read {}: {e}", file.display()))?;
        Ok(text.trim_end_matches(['\r', '\n']).to_string())
    };
    let password = args.store_password_file.as_ref().map(secret).transpose()?.unwrap_or_default();
    let store = |file: &PathBuf| StoreFile::of(file, &password).map_err(|e| anyhow::anyhow!("{}: {e}", file.display()));
    let sasl_password = args.sasl_password_file.as_ref().map(secret).transpose()?;
    let auth = args.auth.iter().map(|a| {
        let (scheme, credentials) =
            a.split_once(':').ok_or_else(|| anyhow::anyhow!("--auth {a}: SCHEME:CREDENTIALS is expected"))?;
        Ok((scheme.to_string(), credentials.to_string()))
    });
    let mut auth = auth.collect::<anyhow::Result<Vec<_>>>()?;
    let mut servers: Vec<String> = servers.split(',').filter(|s| !s.is_empty()).map(str::to_string).collect();
    if let Some(path) = &args.cluster {
        let config = crate::status::find_config(path)?;
        servers = config.coordination_addresses()?.iter().map(ToString::to_string).collect();
        auth.push(("digest".into(), Credentials::of_cluster(config.keys()?.in_use()).user_and_password().into()));
    }
    let access = Access {
        servers,
        trust: args.trust_store.as_ref().map(store).transpose()?,
        own: args.key_store.as_ref().map(store).transpose()?,
        any_host: args.any_host,
        sasl: args.sasl_user.clone().zip(sasl_password),
        auth,
        timeout_ms: args.timeout,
    };
    let mut client = commands::Client { session: Session::begin(&access)?, root, json: args.json };
    let done = match &args.command {
        Some(line) => client.carry_out(line),
        None => shell::run(&mut client),
    };
    client.session.close();
    done
}
