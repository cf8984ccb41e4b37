//! Asks an NFS server for an export: NULL, and where the mount port is known, MNT and FSSTAT.
//= RFC 5531 section 9 (messages), RFC 1813 sections 3.3.18 and 5.2.1

use serde::Deserialize;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use trivet_observe::view::ExportView;

/// A whole probe takes at most this long; a server that needs longer counts as not answering.
const PROBE_LIMIT: Duration = Duration::from_secs(5);
/// Bytes of one answer; a longer one is an error.
const ANSWER_BYTES_MAX: usize = 64 << 10;
const NFS: u32 = 100_003;
const MOUNT: u32 = 100_005;

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Export {
    pub server: String,
    pub path: String,
    #[serde(default = "nfs_port")]
    pub port: u16,
    /// Without it only NULL is asked.
    pub mount_port: Option<u16>,
}

fn nfs_port() -> u16 {
    2_049
}

pub(super) async fn probe(e: Export) -> ExportView {
    let mut view = ExportView { server: e.server.clone(), path: e.path.clone(), ..Default::default() };
    match tokio::time::timeout(PROBE_LIMIT, ask(&e, &mut view)).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => view.error = Some(error),
        Err(_) => view.error = Some(format!("no answer within {} s", PROBE_LIMIT.as_secs())),
    }
    view
}

async fn ask(e: &Export, view: &mut ExportView) -> Result<(), String> {
    let mut nfs = connect(&e.server, e.port).await?;
    let begun = Instant::now();
    call(&mut nfs, NFS, 0, &[]).await?;
    view.latency_ms = Some(begun.elapsed().as_secs_f64() * 1e3);
    let Some(port) = e.mount_port else { return Ok(()) };
    let mut mount = connect(&e.server, port).await?;
    let mut path = Vec::new();
    put_bytes(&mut path, e.path.as_bytes());
    let answer = call(&mut mount, MOUNT, 1, &path).await?;
    let mut r = Reader(&answer);
    match r.word()? {
        0 => {}
        status => return Err(format!("it cannot be mounted: status {status}")),
    }
    let handle = r.bytes()?.to_vec();
    let mut body = Vec::new();
    put_bytes(&mut body, &handle);
    let answer = call(&mut nfs, NFS, 18, &body).await?;
    let mut r = Reader(&answer);
    match r.word()? {
        0 => {}
        status => return Err(format!("FSSTAT: status {status}")),
    }
    // The attributes of the root, if they come with it.
    if r.word()? != 0 {
        r.skip(84)?;
    }
    view.total_bytes = r.long()?;
    view.free_bytes = r.long()?;
    Ok(())
}

async fn connect(server: &str, port: u16) -> Result<TcpStream, String> {
    TcpStream::connect((server, port)).await.map_err(|e| format!("port {port}: {e}"))
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(&(bytes.len() as u32).to_be_bytes());
    out.extend_from_slice(bytes);
    out.resize(out.len().next_multiple_of(4), 0);
}

/// A call with AUTH_SYS of root, and the answer's results.
async fn call(stream: &mut TcpStream, program: u32, procedure: u32, arguments: &[u8]) -> Result<Vec<u8>, String> {
    let words = |out: &mut Vec<u8>, all: &[u32]| all.iter().for_each(|w| out.extend_from_slice(&w.to_be_bytes()));
    let mut message = Vec::new();
    words(&mut message, &[procedure + 1, 0, 2, program, 3, procedure]);
    let mut credentials = Vec::new();
    words(&mut credentials, &[0]);
    put_bytes(&mut credentials, b"trivet");
    words(&mut credentials, &[0, 0, 0]);
    words(&mut message, &[1]);
    put_bytes(&mut message, &credentials);
    words(&mut message, &[0, 0]);
    message.extend_from_slice(arguments);
    let mut record = (0x8000_0000 | message.len() as u32).to_be_bytes().to_vec();
    record.extend_from_slice(&message);
    stream.write_all(&record).await.map_err(|e| e.to_string())?;
    let mut answer = Vec::new();
    loop {
        let mark = stream.read_u32().await.map_err(|e| e.to_string())?;
        let length = (mark & 0x7fff_ffff) as usize;
        if answer.len() + length > ANSWER_BYTES_MAX {
            return Err("its answer is too long".into());
        }
        let at = answer.len();
        answer.resize(at + length, 0);
        stream.read_exact(&mut answer[at..]).await.map_err(|e| e.to_string())?;
        if mark & 0x8000_0000 != 0 {
            break;
        }
    }
    let mut r = Reader(&answer);
    let (xid, kind, denied) = (r.word()?, r.word()?, r.word()?);
    if xid != procedure + 1 || kind != 1 {
        return Err("it answers something else".into());
    }
    if denied != 0 {
        return Err("it denies the call".into());
    }
    r.word()?;
    r.bytes()?;
    match r.word()? {
        0 => Ok(r.0.to_vec()),
        status => Err(format!("it does not accept the call: status {status}")),
    }
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, n: usize) -> Result<&'a [u8], String> {
        let (taken, rest) = self.0.split_at_checked(n).ok_or("its answer is too short")?;
        self.0 = rest;
        Ok(taken)
    }
    fn skip(&mut self, n: usize) -> Result<(), String> {
        self.take(n).map(drop)
    }
    fn word(&mut self) -> Result<u32, String> {
        Ok(u32::from_be_bytes(self.take(4)?.try_into().expect("four bytes")))
    }
    fn long(&mut self) -> Result<u64, String> {
        Ok(u64::from_be_bytes(self.take(8)?.try_into().expect("eight bytes")))
    }
    fn bytes(&mut self) -> Result<&'a [u8], String> {
        let n = self.word()? as usize;
        let taken = self.take(n)?;
        self.take((4 - n % 4) % 4)?;
        Ok(taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_export_that_answers_and_one_that_does_not() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            loop {
                let (mut s, _) = listener.accept().await.unwrap();
                let n = (s.read_u32().await.unwrap() & 0x7fff_ffff) as usize;
                let mut call = vec![0; n];
                s.read_exact(&mut call).await.unwrap();
                let mut answer = call[..4].to_vec();
                [1u32, 0, 0, 0, 0].iter().for_each(|w| answer.extend_from_slice(&w.to_be_bytes()));
                s.write_u32(0x8000_0000 | answer.len() as u32).await.unwrap();
                s.write_all(&answer).await.unwrap();
            }
        });
        let e = Export { server: "127.0.0.1".into(), path: "/a".into(), port, mount_port: None };
        let v = probe(e.clone()).await;
        assert!(v.error.is_none() && v.latency_ms.is_some(), "{v:?}");
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        assert!(probe(Export { port: free, ..e }).await.error.is_some());
    }
}
