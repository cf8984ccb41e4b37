//! Asks consoles for their nodes' status, from a program that is no node.

use super::spoken::Spoken;
use super::NodeStatus;
use crate::console::accounts::signed_header;
use crate::console::BY_HEADER;
use crate::keys::Keys;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// Time of one answer in all.
pub(super) const LIMIT: Duration = Duration::from_secs(2);
/// Bytes of one answer; a longer one is reported as such, and not as a silent node.
const ANSWER_BYTES_MAX: u64 = 16 << 20;
/// Pages of files that are asked for; what lies beyond is not listed.
const PAGES_MAX: usize = 2_000;

/// Reasons that no status was fetched.
#[derive(Debug)]
pub enum FetchError {
    /// No answer came in time.
    Silent(std::io::Error),
    /// The answer is longer than `ANSWER_BYTES_MAX`.
    TooLong,
    /// The answer is no status.
    NotStatus(String),
    /// The node understood the request and refuses it, for this reason.
    Refused(String),
}

impl std::fmt::Display for FetchError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            FetchError::Silent(e) => write!(f, "does not answer: {e}"),
            FetchError::TooLong => write!(f, "answers with more than {ANSWER_BYTES_MAX} bytes"),
            FetchError::NotStatus(e) => write!(f, "answers: {e}"),
            FetchError::Refused(why) => write!(f, "refuses: {why}"),
        }
    }
}

/// Status of each node that answers, with all its files, and the numbers of those that do not.
pub fn fetch_all(keys: &Keys, nodes: &[(u32, Vec<SocketAddr>)]) -> (Vec<NodeStatus>, Vec<u32>) {
    // All at once: a node that is gone must not cost the time of each.
    let answers: Vec<(u32, Vec<Result<NodeStatus, FetchError>>)> = std::thread::scope(|scope| {
        let asked: Vec<_> = nodes
            .iter()
            .map(|(node, addresses)| {
                (*node, addresses.iter().map(|a| scope.spawn(move || fetch(keys, *a))).collect::<Vec<_>>())
            })
            .collect();
        asked
            .into_iter()
            .map(|(node, threads)| (node, threads.into_iter().map(|t| t.join().expect("it does not panic")).collect()))
            .collect()
    });
    let (mut found, mut silent) = (Vec::new(), Vec::new());
    for (node, results) in answers {
        let mut any = false;
        for result in results {
            match result {
                Ok(status) => {
                    any = true;
                    found.push(status);
                }
                Err(FetchError::Silent(_)) => {}
                Err(e) => {
                    any = true;
                    tracing::warn!(node, error = %e, "a console answers, and its status cannot be used");
                }
            }
        }
        if !any {
            silent.push(node);
        }
    }
    (found, silent)
}

/// Asks one console, page by page.
///
/// # Errors
/// No answer comes in time, or the answer is no status.
pub fn fetch(keys: &Keys, address: SocketAddr) -> Result<NodeStatus, FetchError> {
    let mut status = page(keys, address, 0)?;
    let mut pages = 1;
    while status.more_files && pages < PAGES_MAX {
        let Some(last) = status.files.last().map(|f| f.file) else { break };
        let next = page(keys, address, last)?;
        status.files.extend(next.files);
        status.more_files = next.more_files;
        pages += 1;
    }
    Ok(status)
}

fn page(keys: &Keys, address: SocketAddr, after: u64) -> Result<NodeStatus, FetchError> {
    let body = ask(keys, address, "GET", &format!("/status.json?after={after}"), "")?;
    serde_json::from_slice(&body).map_err(|e| FetchError::NotStatus(e.to_string()))
}

/// Asks a console with the cluster's key, and gives the body of its answer. `form`: what is posted.
///
/// # Errors
/// No answer comes in time, or the console refuses.
pub fn ask(keys: &Keys, address: SocketAddr, method: &str, path: &str, form: &str) -> Result<Vec<u8>, FetchError> {
    let begun = Instant::now();
    let mut stream = Spoken::connect(keys, address)?;
    let left = |begun: Instant| {
        let left = LIMIT.saturating_sub(begun.elapsed());
        if left.is_zero() {
            Err(FetchError::Silent(std::io::ErrorKind::TimedOut.into()))
        } else {
            Ok(left)
        }
    };
    let signed = signed_header(keys.in_use(), crate::clock::wall_ms(), method, path);
    let mut asked = format!("{method} {path} HTTP/1.0\r\nHost: {address}\r\nAuthorization: {signed}\r\n");
    let by: String = crate::audit::who().chars().filter(char::is_ascii_graphic).collect();
    asked += &format!("{BY_HEADER}: {by}\r\n");
    if method != "GET" {
        asked += &format!("Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n", form.len());
    }
    asked += "\r\n";
    asked += form;
    stream.write_all(asked.as_bytes()).and_then(|()| stream.flush()).map_err(FetchError::Silent)?;
    let mut answer = Vec::new();
    let mut buffer = vec![0; 64 << 10];
    loop {
        stream.socket().set_read_timeout(Some(left(begun)?)).map_err(FetchError::Silent)?;
        let n = stream.read(&mut buffer).map_err(FetchError::Silent)?;
        if n == 0 {
            break;
        }
        answer.extend_from_slice(&buffer[..n]);
        if answer.len() as u64 > ANSWER_BYTES_MAX {
            return Err(FetchError::TooLong);
        }
    }
    let at = answer
        .windows(4)
        .position(|w| w == b"\r\n\r\n")
        .ok_or_else(|| FetchError::NotStatus("it has no header".into()))?;
    let head = String::from_utf8_lossy(&answer[..at]).lines().next().unwrap_or_default().to_string();
    let body = answer.split_off(at + 4);
    // A form that was taken leads back to its page.
    if !head.contains(" 200") && !head.contains(" 303") {
        let said = String::from_utf8_lossy(&body).trim().chars().take(300).collect::<String>();
        let is_refusal = head.split(' ').nth(1).is_some_and(|code| code.starts_with('4'));
        return Err(match is_refusal && !said.is_empty() {
            true => FetchError::Refused(said),
            false => FetchError::NotStatus(format!("{head}: {said}")),
        });
    }
    Ok(body)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Answers once with these bytes.
    fn answers(bytes: Vec<u8>) -> SocketAddr {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let _ = stream.read(&mut [0; 1024]);
            let _ = stream.write_all(&bytes);
        });
        address
    }

    #[test]
    fn an_answer_that_is_too_long_is_not_a_node_that_does_not_answer() {
        let mut long = b"HTTP/1.0 200 OK\r\n\r\n".to_vec();
        long.resize(ANSWER_BYTES_MAX as usize + 1_000, b' ');
        assert!(matches!(fetch(&Keys::of(&[1]), answers(long)), Err(FetchError::TooLong)));
        assert!(matches!(
            fetch(&Keys::of(&[1]), answers(b"HTTP/1.0 200 OK\r\n\r\n{}".to_vec())),
            Err(FetchError::NotStatus(_))
        ));
        assert!(matches!(
            fetch(&Keys::of(&[1]), answers(b"HTTP/1.0 503 no\r\n\r\n".to_vec())),
            Err(FetchError::NotStatus(_))
        ));
        // No process listens on a port that was just closed.
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        assert!(matches!(fetch(&Keys::of(&[1]), free), Err(FetchError::Silent(_))));
    }
}
