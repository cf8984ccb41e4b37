//! `trivet invite` on a node and `trivet join TOKEN` on a new host: the way of the cluster's key to that host.
//!
//! The token names an address, the node's number, the SHA-256 of a certificate that was made for this invitation, and a
//! secret. The new host connects over TLS 1.3 to the server with that certificate and to no other, sends the secret, and
//! gets the key and the settings. An invitation is used up by its first right secret, by [`WRONG_MAX`] wrong ones, or by
//! [`VALID_MAX`].

use crate::init::{write, NodeFiles};
use anyhow::{bail, Context};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use trivet_node::config::NodeConfig;
use trivet_node::keys::{from_hex, hex, Keys};
use trivet_node::{rpc, tls};

/// An invitation ends after this time, used or not.
const VALID_MAX: Duration = Duration::from_secs(600);
/// Wrong secrets after which an invitation ends, because somebody is guessing.
const WRONG_MAX: u32 = 8;
/// Time for a caller's handshake, secret and answer; a slower caller is dropped, and the next one served.
const CALL_LIMIT: Duration = Duration::from_secs(5);
/// Bytes of the answer; a longer one is refused.
const ANSWER_BYTES_MAX: u64 = 64 << 10;
/// Beside the ports that nodes serve, so that an invitation can be made while the node runs.
const PORT: u16 = 4882;

#[derive(clap::Args)]
#[command(
    after_help = "Example:\n  trivet invite --node 2      # prints the line to run on that host, and waits ten minutes"
)]
pub struct InviteArgs {
    /// Number of the new host's node, a key of the section nodes
    #[arg(long)]
    node: u32,
    /// This node's configuration
    #[arg(long, default_value = "/etc/trivet/node.toml")]
    config: PathBuf,
    /// Port that the invitation is served on, on this node's address
    #[arg(long, default_value_t = PORT)]
    port: u16,
}

#[derive(clap::Args)]
#[command(after_help = "Example:\n  trivet join 10.0.0.11:4882/2/CERTIFICATE/SECRET")]
pub struct JoinArgs {
    /// The token that `trivet invite` printed on a node of the cluster
    token: String,
    /// Folder of node.toml and the cluster's key
    #[arg(long, default_value = "/etc/trivet")]
    config_dir: PathBuf,
    /// Folder of the data
    #[arg(long, default_value = "/var/lib/trivet")]
    data: PathBuf,
}

#[derive(serde::Serialize, serde::Deserialize)]
struct Answer {
    cluster: String,
    incarnation: u64,
    nodes: std::collections::BTreeMap<u32, IpAddr>,
    datastore_addresses: Vec<IpAddr>,
    key: String,
    /// Key of the tags in file handles, if the cluster's key was changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    handles: Option<String>,
    /// The cluster has not begun yet.
    #[serde(default)]
    new: bool,
}

#[derive(Debug, PartialEq, Eq)]
struct Token {
    address: SocketAddr,
    node: u32,
    fingerprint: [u8; 32],
    secret: [u8; 32],
}

impl std::fmt::Display for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}/{}/{}", self.address, self.node, hex(&self.fingerprint), hex(&self.secret))
    }
}

impl std::str::FromStr for Token {
    type Err = anyhow::Error;
    fn from_str(text: &str) -> anyhow::Result<Token> {
        let parts: Vec<&str> = text.trim().split('/').collect();
        let [address, node, fingerprint, secret] = parts[..] else {
            bail!("the token is not complete; copy the whole line that `trivet invite` printed");
        };
        Ok(Token {
            address: address.parse().context("the token's address is damaged")?,
            node: node.parse().context("the token's node number is damaged")?,
            fingerprint: from_hex(fingerprint).context("the token's certificate is damaged")?,
            secret: from_hex(secret).context("the token's secret is damaged")?,
        })
    }
}

pub fn invite(args: &InviteArgs) -> anyhow::Result<()> {
    let config = NodeConfig::load(&args.config)?;
    if args.node == config.node {
        bail!("node {} is this host", args.node);
    }
    if !config.nodes.contains_key(&args.node.to_string()) {
        bail!("node {} is not in [nodes] of {}", args.node, args.config.display());
    }
    let keys = config.keys()?;
    if keys.is_changing() {
        bail!("the cluster's key is being changed; finish that first (`trivet key show` says which step is next)");
    }
    let answer = Answer {
        cluster: config.cluster.clone(),
        incarnation: config.incarnation,
        nodes: config.nodes.iter().filter_map(|(n, a)| Some((n.parse().ok()?, *a))).collect(),
        datastore_addresses: config.datastore_addresses.clone(),
        key: hex(keys.in_use()),
        handles: (keys.handles() != keys.in_use()).then(|| hex(keys.handles())),
        // Later a server without data is one that lost it, or a replacement: the others admit it.
        new: !trivet_node::new_ensemble::has_begun(&config.data),
    };
    let address = SocketAddr::new(config.host(config.node), args.port);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind(address)
            .await
            .with_context(|| format!("cannot listen on {address}; choose another port with --port"))?;
        let (acceptor, fingerprint) = tls::invitation()?;
        let token =
            Token { address: listener.local_addr()?, node: args.node, fingerprint, secret: rpc::random::<32>() };
        println!("run on {}, within ten minutes:\n", config.nodes[&args.node.to_string()]);
        println!("  trivet join {token}\n");
        tokio::time::timeout(VALID_MAX, wait(&listener, &acceptor, &token.secret, &answer))
            .await
            .context("nobody joined within ten minutes; the token is no longer valid")?
    })
}

/// Serves callers one after the other until one has the secret.
async fn wait(
    listener: &tokio::net::TcpListener,
    acceptor: &tokio_rustls::TlsAcceptor,
    secret: &[u8; 32],
    answer: &Answer,
) -> anyhow::Result<()> {
    let mut wrong = 0;
    loop {
        let (stream, from) = listener.accept().await?;
        let call = async {
            let mut stream = acceptor.accept(stream).await?;
            let mut shown = [0; 32];
            stream.read_exact(&mut shown).await?;
            // Compared without a branch on each byte, so that the time tells nothing.
            let same = shown.iter().zip(secret).fold(0, |sum, (a, b)| sum | (a ^ b)) == 0;
            if same {
                stream.write_all(&serde_json::to_vec(answer)?).await?;
                stream.shutdown().await?;
            }
            Ok::<bool, std::io::Error>(same)
        };
        match tokio::time::timeout(CALL_LIMIT, call).await {
            Ok(Ok(true)) => {
                println!("{} has joined; the token is used up", from.ip());
                return Ok(());
            }
            Ok(Ok(false)) => {
                wrong += 1;
                eprintln!("{from} showed a wrong secret");
                if wrong >= WRONG_MAX {
                    bail!("{wrong} wrong secrets: the invitation is withdrawn; invite again when you know who tried");
                }
            }
            Ok(Err(e)) => eprintln!("{from}: {e}"),
            Err(_) => eprintln!("{from} said nothing"),
        }
    }
}

pub fn join(args: &JoinArgs) -> anyhow::Result<()> {
    let token: Token = args.token.parse()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let answer = runtime.block_on(async {
        tokio::time::timeout(CALL_LIMIT, ask(&token))
            .await
            .with_context(|| format!("{} does not answer", token.address))?
    })?;
    let files = NodeFiles {
        cluster: answer.cluster,
        incarnation: answer.incarnation,
        node: token.node,
        nodes: answer.nodes,
        datastore_addresses: answer.datastore_addresses,
        key: key_file(&answer.key, answer.handles.as_deref())?,
        new: answer.new,
    };
    write(&files, &args.config_dir, &args.data)?;
    println!("this host is node {} of cluster {}", files.node, files.cluster);
    println!("next: trivet check && systemctl enable --now trivet");
    Ok(())
}

/// The text of the new host's key file.
fn key_file(key: &str, handles: Option<&str>) -> anyhow::Result<String> {
    let key = from_hex(key).context("the answer's key is damaged")?;
    let handles = from_hex(handles.unwrap_or(&hex(&key))).context("the answer's key of file handles is damaged")?;
    Ok(Keys::with_handles(&key, &handles).text())
}

async fn ask(token: &Token) -> anyhow::Result<Answer> {
    let stream = tokio::net::TcpStream::connect(token.address)
        .await
        .with_context(|| format!("cannot reach {}; is `trivet invite` still waiting there?", token.address))?;
    let mut stream = tls::connect_pinned(stream, token.fingerprint)
        .await
        .context("the server there is not the one that made the token")?;
    stream.write_all(&token.secret).await?;
    stream.flush().await?;
    let mut answer = Vec::new();
    let read = (&mut stream).take(ANSWER_BYTES_MAX).read_to_end(&mut answer).await;
    if answer.is_empty() {
        bail!("the token was refused: it is used up, or not that of the invitation that waits there");
    }
    read.context("the answer was cut off")?;
    serde_json::from_slice(&answer).context("the answer is damaged")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer() -> Answer {
        Answer {
            cluster: "c0ffee".into(),
            incarnation: 1,
            nodes: [(1, "10.0.0.1".parse().unwrap()), (2, "10.0.0.2".parse().unwrap())].into(),
            datastore_addresses: vec![],
            key: "ab".repeat(32),
            handles: None,
            new: true,
        }
    }

    #[test]
    fn a_token_is_what_was_printed_and_a_damaged_one_is_refused() {
        let token = Token { address: "10.0.0.1:4882".parse().unwrap(), node: 2, fingerprint: [7; 32], secret: [9; 32] };
        assert_eq!(token.to_string().parse::<Token>().unwrap(), token);
        let v6 = Token { address: "[fd00::1]:4882".parse().unwrap(), ..token };
        assert_eq!(v6.to_string().parse::<Token>().unwrap(), v6);
        let text = v6.to_string();
        for cut in [0, 5, 20, text.len() - 1] {
            assert!(text[..cut].parse::<Token>().is_err());
        }
        assert!(text.replace("0707", "07ü").parse::<Token>().is_err());
    }

    #[tokio::test]
    async fn the_secret_opens_an_invitation_once_and_guesses_end_it() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (acceptor, fingerprint) = tls::invitation().unwrap();
        let token = Token { address: listener.local_addr().unwrap(), node: 2, fingerprint, secret: [5; 32] };
        let wrong = Token { secret: [6; 32], ..token };
        let served = tokio::spawn(async move { wait(&listener, &acceptor, &[5; 32], &answer()).await });
        assert!(ask(&wrong).await.err().unwrap().to_string().contains("refused"));
        assert_eq!(ask(&token).await.unwrap().key, "ab".repeat(32));
        served.await.unwrap().unwrap();
        assert!(ask(&token).await.is_err(), "a token is used up");

        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (acceptor, fingerprint) = tls::invitation().unwrap();
        let wrong = Token { address: listener.local_addr().unwrap(), fingerprint, ..wrong };
        let served = tokio::spawn(async move { wait(&listener, &acceptor, &[5; 32], &answer()).await });
        for _ in 0..WRONG_MAX {
            assert!(ask(&wrong).await.is_err());
        }
        assert!(served.await.unwrap().unwrap_err().to_string().contains("withdrawn"));
    }
}
