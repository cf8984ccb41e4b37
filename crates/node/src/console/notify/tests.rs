use super::*;
use crate::audit::Order;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use trivet_observe::view::*;
use trivet_observe::watcher::{Effect, Input, Watcher};

/// A node that is down, as an incident that has just opened.
fn incident() -> Message {
    let mut w = Watcher::default();
    let mut view = ClusterView { observer: 1, ..Default::default() };
    view.nodes =
        (1..=3).map(|n| (n, NodeView { silent_ms: if n == 3 { 5_000 } else { 0 }, ..Default::default() })).collect();
    let mut out = Vec::new();
    for s in 0..40 {
        w.handle(1_700_000_000_000 + s * 1_000, Input::View(&view, None), &mut out).unwrap();
    }
    let sent = |e| if let Effect::Send(m) = e { Some(m) } else { None };
    out.into_iter().find_map(sent).expect("it opened")
}

fn target(kind: Kind, url: &str) -> Target {
    let text = format!(
        "name = \"ops\"\nkind = \"{}\"\nurl = \"{url}\"\nlanguage = \"zh\"",
        format!("{kind:?}").to_lowercase()
    );
    toml::from_str(&text).unwrap()
}

/// Takes one request, answers it, and gives it out.
async fn receiver(answer: &'static str) -> (String, tokio::task::JoinHandle<String>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    let task = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut got = Vec::new();
        loop {
            let mut some = [0; 4096];
            let n = stream.read(&mut some).await.unwrap();
            got.extend_from_slice(&some[..n]);
            let text = String::from_utf8_lossy(&got).to_string();
            let Some(head) = text.find("\r\n\r\n") else { continue };
            let length =
                text.lines().find_map(|l| l.strip_prefix("Content-Length: ")).unwrap().parse::<usize>().unwrap();
            if got.len() >= head + 4 + length {
                stream.write_all(answer.as_bytes()).await.unwrap();
                return text;
            }
        }
    });
    (format!("http://{at}/hook"), task)
}

fn body(request: &str) -> serde_json::Value {
    serde_json::from_str(&request[request.find("\r\n\r\n").unwrap() + 4..]).unwrap()
}

#[tokio::test]
async fn a_webhook_gets_the_payload_of_alertmanager() {
    let (url, got) = receiver("HTTP/1.1 200 OK\r\n\r\n").await;
    send(&target(Kind::Webhook, &url), &News::Incident(Box::new(incident())), "c").await.unwrap();
    let v = body(&got.await.unwrap());
    assert_eq!((v["version"].as_str(), v["status"].as_str()), (Some("4"), Some("firing")));
    let a = &v["alerts"][0];
    assert_eq!(a["labels"]["alertname"], "NODE_DOWN");
    assert_eq!(a["labels"]["node"], "3");
    assert!(a["annotations"]["summary"].as_str().unwrap().contains("宕机"));
    for field in
        ["receiver", "groupLabels", "commonLabels", "commonAnnotations", "externalURL", "groupKey", "truncatedAlerts"]
    {
        assert!(!v[field].is_null(), "{field}");
    }
}

#[tokio::test]
async fn a_robot_that_answers_200_and_refuses_has_not_taken_the_message() {
    for (kind, code) in [(Kind::Wecom, "errcode"), (Kind::Dingtalk, "errcode"), (Kind::Feishu, "code")] {
        let answer = format!("HTTP/1.1 200 OK\r\n\r\n{{\"{code}\":0}}").leak();
        let (url, got) = receiver(answer).await;
        send(&target(kind, &url), &News::Incident(Box::new(incident())), "c").await.unwrap();
        assert!(body(&got.await.unwrap()).to_string().contains("节点 3 宕机"));
        let answer = format!("HTTP/1.1 200 OK\r\n\r\n{{\"{code}\":310000,\"errmsg\":\"sign not match\"}}").leak();
        let (url, _got) = receiver(answer).await;
        let e = send(&target(kind, &url), &News::Test, "c").await.unwrap_err();
        assert!(e.contains("sign not match"), "{e}");
    }
}

#[tokio::test]
async fn a_mail_server_gets_a_mail_in_chinese() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    let server = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let mut s = BufReader::new(stream);
        s.write_all(b"220 hello\r\n").await.unwrap();
        let (mut lines, mut data) = (Vec::new(), false);
        loop {
            let mut line = String::new();
            if s.read_line(&mut line).await.unwrap() == 0 {
                return lines;
            }
            let line = line.trim_end().to_string();
            lines.push(line.clone());
            let answer = match line.as_str() {
                "DATA" => {
                    data = true;
                    "354 go on\r\n"
                }
                "." => {
                    data = false;
                    "250 taken\r\n"
                }
                "QUIT" => return lines,
                "EHLO trivet" => "250-here\r\n250 8BITMIME\r\n",
                _ if data => continue,
                _ => "250 ok\r\n",
            };
            s.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    let mut t = target(Kind::Email, "");
    (t.server, t.from, t.to) = (at.to_string(), "trivet@x.example".into(), vec!["ops@x.example".into()]);
    send(&t, &News::Incident(Box::new(incident())), "c").await.unwrap();
    let lines = server.await.unwrap();
    assert!(lines.contains(&"RCPT TO:<ops@x.example>".to_string()), "{lines:?}");
    t.to = vec!["a@b>\r\nRCPT TO:<evil@x".into()];
    assert!(send(&t, &News::Test, "c").await.unwrap_err().contains("no mail address"));
}

#[test]
fn a_receiver_that_fails_is_asked_again_later_and_one_that_gets_much_is_spared() {
    let mut line = Line::new(target(Kind::Webhook, "http://x"));
    let mut now = Instant::now();
    line.push(News::Test);
    assert!(line.due(now).is_some());
    line.done(now, Err("refused".into()));
    assert!(line.due(now).is_none(), "at once");
    now += RETRY_FIRST;
    assert!(line.due(now).is_some());
    line.done(now, Ok(()));
    assert!(line.due(now).is_none(), "twice");
    for _ in 0..2 * QUEUE_MAX {
        line.push(News::Test);
    }
    assert_eq!(line.queue.len(), QUEUE_MAX);
    let mut sent = 0;
    while line.due(now).is_some() {
        line.done(now, Ok(()));
        sent += 1;
    }
    assert_eq!(sent, RATE_MAX - 1);
    assert!(line.due(now + RATE_TIME).is_some());
}

#[tokio::test]
async fn a_webhook_goes_by_https_to_the_server_whose_certificate_is_pinned_and_to_no_other() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://127.0.0.1:{}/hook", listener.local_addr().unwrap().port());
    let (acceptor, fingerprint) = crate::tls::invitation().unwrap();
    let server = tokio::spawn(async move {
        // The second one breaks off in the handshake.
        for _ in 0..2 {
            let (stream, _) = listener.accept().await.unwrap();
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            let mut got = vec![0; 64 << 10];
            let n = stream.read(&mut got).await.unwrap_or(0);
            let _ = stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await;
            let _ = stream.shutdown().await;
            if n > 0 {
                assert!(got.starts_with(b"POST /hook HTTP/1.1\r\n"));
            }
        }
    });
    let pin = |bytes: [u8; 32]| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
    let mut t = target(Kind::Webhook, &url);
    t.thumbprint = Some(pin(fingerprint));
    send(&t, &News::Test, "c").await.unwrap();
    t.thumbprint = Some(pin([7; 32]));
    let refused = send(&t, &News::Test, "c").await.unwrap_err();
    assert!(refused.contains("pinned"), "{refused}");
    server.await.unwrap();
}

/// Sends to a server that gives this answer, and keeps the connection open if it is told to.
async fn answered(kind: Kind, answer: &'static str, keeps: bool) -> Result<(), String> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let t = target(kind, &format!("http://{}/hook", listener.local_addr().unwrap()));
    let server = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut got = vec![0; 64 << 10];
        assert!(stream.read(&mut got).await.unwrap() > 0);
        stream.write_all(answer.as_bytes()).await.unwrap();
        while keeps && stream.read(&mut got).await.is_ok_and(|n| n > 0) {}
    });
    let outcome = send(&t, &News::Test, "c").await;
    server.await.unwrap();
    outcome
}

#[tokio::test]
async fn an_answer_is_read_in_every_form_that_http_has_for_it() {
    let pieces = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\n{\"errcode\r\n11\r\n\":0,\"errmsg\":\"ok\"\r\n1\r\n}\r\n0\r\n\r\n";
    answered(Kind::Dingtalk, pieces, true).await.unwrap();
    let refused =
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n11\r\n{\"errcode\":310000\r\n1\r\n}\r\n0\r\n\r\n";
    assert!(answered(Kind::Dingtalk, refused, true).await.unwrap_err().contains("310000"));
    // The server does not end the connection, although it is asked to.
    let length = "HTTP/1.1 200 OK\r\nContent-Length: 13\r\n\r\n{\"errcode\":0}";
    answered(Kind::Wecom, length, true).await.unwrap();
    answered(Kind::Wecom, "HTTP/1.0 200 OK\r\n\r\n{\"errcode\":0}", false).await.unwrap();
    let early = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n";
    answered(Kind::Webhook, early, true).await.unwrap();
    let busy = "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n";
    assert!(answered(Kind::Webhook, busy, true)
        .await
        .unwrap_err()
        .ends_with("answers: HTTP/1.1 503 Service Unavailable"));
    assert!(answered(Kind::Webhook, "SSH-2.0-OpenSSH\r\n", false).await.is_err());
}

#[tokio::test]
async fn syslog_gets_incidents_and_what_operators_did() {
    let socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let mut t = target(Kind::Syslog, "");
    t.server = format!("udp://{}", socket.local_addr().unwrap());
    send(&t, &News::Incident(Box::new(incident())), "c").await.unwrap();
    let mut got = [0; 4096];
    let n = socket.recv(&mut got).await.unwrap();
    let text = String::from_utf8_lossy(&got[..n]).to_string();
    assert!(text.starts_with("<130>1 ") && text.contains(" INCIDENT [trivet@32473 cluster=\"c\" incident="), "{text}");
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    t.server = format!("tcp://{}", listener.local_addr().unwrap());
    let audit = News::Audit(Order { by: "ann".into(), from: None, what: "silence".into(), outcome: "done".into() });
    let sent = tokio::spawn(async move { send(&t, &audit, "c").await });
    let (mut stream, _) = listener.accept().await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    sent.await.unwrap().unwrap();
    let (length, message) = text.split_once(' ').unwrap();
    assert_eq!(length.parse::<usize>().unwrap(), message.len());
    assert!(message.contains("by=\"ann\""), "{message}");
}
