//! An administrator's wish for another coordination leader, handed to the server on this node: that one answers the word
//! `lead` to its own host only.

use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Time within which the server on the same host has to answer.
const LIMIT: Duration = Duration::from_secs(2);
/// Bytes of its answer; it is one line.
const ANSWER_BYTES_MAX: u64 = 4 << 10;

/// Returns the server's answer, or why there is none.
pub(super) async fn ask_for_the_lead(server: SocketAddr) -> String {
    let asked = async {
        let mut stream = TcpStream::connect(server).await?;
        stream.write_all(b"lead").await?;
        let mut answer = String::new();
        stream.take(ANSWER_BYTES_MAX).read_to_string(&mut answer).await?;
        Ok::<_, std::io::Error>(answer)
    };
    match tokio::time::timeout(LIMIT, asked).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(e)) => format!("coordination at {server} cannot be asked: {e}\n"),
        Err(_) => format!("coordination at {server} did not answer within {} s\n", LIMIT.as_secs()),
    }
}
