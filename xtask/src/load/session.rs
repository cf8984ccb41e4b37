//! A session: frames out, frames in.

use anyhow::{bail, Context};
use bytes::{Buf, Bytes, BytesMut};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use trivet_formats::client::{
    err, op, open_acl, xid, ConnectRequest, ConnectResponse, CreateRequest, ReplyHeader, RequestHeader,
};
use trivet_formats::{Jute, Reader};

/// A server that sends nothing for this long is left for the next one.
const SILENCE_LIMIT: Duration = Duration::from_secs(20);
const FRAME_BYTES_MAX: usize = 4 << 20;

pub(super) struct Session {
    stream: TcpStream,
    buffer: BytesMut,
}

/// A request, framed, behind what is in `out` already.
pub(super) fn request<T: Jute>(xid: i32, op: i32, body: &T, out: &mut Vec<u8>) {
    let begin = out.len();
    out.extend_from_slice(&[0; 4]);
    RequestHeader { xid, op }.put(out);
    body.put(out);
    let length = (out.len() - begin - 4) as i32;
    out[begin..begin + 4].copy_from_slice(&length.to_be_bytes());
}

impl Session {
    pub(super) async fn open(server: SocketAddr, timeout_ms: i32) -> anyhow::Result<Session> {
        let stream = timeout(SILENCE_LIMIT, TcpStream::connect(server)).await??;
        stream.set_nodelay(true)?;
        let mut session = Session { stream, buffer: BytesMut::with_capacity(4096) };
        let hello =
            ConnectRequest { last_zxid_seen: 0, timeout_ms, session: 0, password: vec![0; 16], read_only: Some(false) };
        let hello = hello.to_vec();
        let mut bytes = (hello.len() as i32).to_be_bytes().to_vec();
        bytes.extend(hello);
        session.send(&bytes).await?;
        if ConnectResponse::parse(&session.frame().await?)?.timeout_ms <= 0 {
            bail!("{server} refused the session");
        }
        Ok(session)
    }

    pub(super) async fn send(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        Ok(self.stream.write_all(bytes).await?)
    }

    fn whole_frame(&mut self) -> anyhow::Result<Option<Bytes>> {
        let Some(head) = self.buffer.get(..4) else { return Ok(None) };
        let length = usize::try_from(i32::from_be_bytes(head.try_into().expect("4")))?;
        if length > FRAME_BYTES_MAX {
            bail!("an answer of {length} bytes");
        }
        if self.buffer.len() < 4 + length {
            return Ok(None);
        }
        self.buffer.advance(4);
        Ok(Some(self.buffer.split_to(length).freeze()))
    }

    pub(super) async fn frame(&mut self) -> anyhow::Result<Bytes> {
        loop {
            if let Some(frame) = self.whole_frame()? {
                return Ok(frame);
            }
            self.buffer.reserve(4096);
            let got = timeout(SILENCE_LIMIT, self.stream.read_buf(&mut self.buffer)).await.context("silence")??;
            if got == 0 {
                bail!("the server closed the connection");
            }
        }
    }

    /// The next answer that has arrived already.
    pub(super) fn waiting(&mut self) -> anyhow::Result<Option<Bytes>> {
        self.whole_frame()
    }

    /// Asks one thing, and waits for its answer: its error, and what is behind the header. Events on the way are
    /// dropped.
    pub(super) async fn ask<T: Jute>(&mut self, op: i32, body: &T) -> anyhow::Result<(i32, Bytes)> {
        let mut bytes = Vec::new();
        request(1, op, body, &mut bytes);
        self.send(&bytes).await?;
        loop {
            let frame = self.frame().await?;
            let mut r = Reader::new(&frame);
            let header = ReplyHeader::get(&mut r)?;
            if header.xid != xid::NOTIFICATION {
                return Ok((header.err, frame.slice(r.position()..)));
            }
        }
    }

    /// Makes a node, or leaves the one that is there.
    pub(super) async fn make(&mut self, path: &str, data: Bytes) -> anyhow::Result<()> {
        let body = CreateRequest { path: path.into(), data: Some(data), acl: open_acl(), flags: 0 };
        match self.ask(op::CREATE, &body).await?.0 {
            err::OK | err::NODE_EXISTS => Ok(()),
            other => bail!("{path} cannot be made: error {other}"),
        }
    }
}
