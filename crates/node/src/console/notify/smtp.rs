//! Delivery of a message to a mail server that accepts it without TLS: a relay on this machine or in its network.

use super::Target;
use base64::Engine;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

/// Lines of one answer; a server that sends more is given up.
const LINES_MAX: usize = 100;

fn is_address(a: &str) -> bool {
    a.contains('@') && a.len() < 255 && a.bytes().all(|b| b.is_ascii_graphic() && !b"<>()".contains(&b))
}

fn encoded(text: &str) -> String {
    base64::engine::general_purpose::STANDARD.encode(text)
}

/// Lines of base64, so that any text fits.
fn body(target: &Target, subject: &str, text: &str) -> String {
    let mut out = format!(
        "From: <{}>\r\nTo: {}\r\nSubject: =?UTF-8?B?{}?=\r\nMIME-Version: 1.0\r\n\
         Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: base64\r\n\r\n",
        target.from,
        target.to.iter().map(|t| format!("<{t}>")).collect::<Vec<_>>().join(", "),
        encoded(subject)
    );
    let all = encoded(text);
    for line in all.as_bytes().chunks(76) {
        out += &String::from_utf8_lossy(line);
        out += "\r\n";
    }
    out
}

pub(super) async fn send(target: &Target, subject: &str, text: &str) -> Result<(), String> {
    if let Some(bad) = target.to.iter().chain([&target.from]).find(|a| !is_address(a)) {
        return Err(format!("{bad} is no mail address"));
    }
    let why = |e: std::io::Error| format!("{}: {e}", target.server);
    let stream = TcpStream::connect(&target.server).await.map_err(why)?;
    let mut stream = BufReader::new(stream);
    expect(&mut stream, '2').await?;
    let mut orders = vec!["EHLO trivet".to_string(), format!("MAIL FROM:<{}>", target.from)];
    orders.extend(target.to.iter().map(|t| format!("RCPT TO:<{t}>")));
    for order in orders {
        stream.write_all(format!("{order}\r\n").as_bytes()).await.map_err(why)?;
        expect(&mut stream, '2').await?;
    }
    stream.write_all(b"DATA\r\n").await.map_err(why)?;
    expect(&mut stream, '3').await?;
    let message = body(target, subject, text) + ".\r\n";
    stream.write_all(message.as_bytes()).await.map_err(why)?;
    expect(&mut stream, '2').await?;
    // The server has taken the message; an error after QUIT changes nothing.
    let _ = stream.write_all(b"QUIT\r\n").await;
    Ok(())
}

async fn expect(stream: &mut BufReader<TcpStream>, class: char) -> Result<(), String> {
    for _ in 0..LINES_MAX {
        let mut line = String::new();
        let n = stream.read_line(&mut line).await.map_err(|e| e.to_string())?;
        if n == 0 {
            return Err("the mail server ended the connection".into());
        }
        if line.as_bytes().get(3) != Some(&b'-') {
            let said = line.trim().chars().take(200).collect::<String>();
            return if line.starts_with(class) { Ok(()) } else { Err(format!("the mail server says: {said}")) };
        }
    }
    Err("the mail server does not stop talking".into())
}
