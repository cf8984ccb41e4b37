use super::*;
use crate::coordination::{ClusterTls, Members, Places, SNAPSHOT_SIZE_FACTOR};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};
use trivet_coordination::config::Member;
use trivet_coordination::{Config, RoleName};
use trivet_formats::ServerId;

const SOON: Duration = Duration::from_secs(30);
const CLIENTS_MAX: usize = 3;

/// Addresses that were free a moment ago.
fn free_addresses(count: usize) -> Vec<SocketAddr> {
    let held: Vec<_> = (0..count).map(|_| std::net::TcpListener::bind("127.0.0.1:0").unwrap()).collect();
    held.iter().map(|l| l.local_addr().unwrap()).collect()
}

fn settings(id: i64, dir: &std::path::Path, client: SocketAddr, peers: Members) -> Settings {
    let ids = peers.keys().copied().chain([ServerId(id)]);
    let members = ids.map(|id| (id, Member { observer: false })).collect();
    let config = Config { four_letter_words: vec!["*".into()], ..Config::new(ServerId(id), members) };
    Settings {
        config,
        data_dir: dir.into(),
        log_dir: dir.into(),
        client_addresses: vec![client],
        peers,
        several_addresses: false,
        listens_everywhere: false,
        max_client_connections: CLIENTS_MAX,
        max_connections: 0,
        request_bytes_max: 1 << 20,
        long_requests: None,
        throttle: None,
        file: None,
        snapshots_kept: 3,
        purge_pause: None,
        snapshot_size_factor: SNAPSHOT_SIZE_FACTOR,
        backlog: -1,
        observer_port: None,
        snapshot_packing: Default::default(),
        security: Default::default(),
    }
}

fn word(to: SocketAddr, word: &str) -> String {
    let mut stream = TcpStream::connect(to).unwrap();
    stream.set_read_timeout(Some(SOON)).unwrap();
    stream.write_all(word.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

/// A session, by the request that a client sends first. None if the connection is closed instead.
fn connect(to: SocketAddr) -> Option<TcpStream> {
    let mut stream = TcpStream::connect(to).unwrap();
    stream.set_read_timeout(Some(SOON)).unwrap();
    let mut request = vec![0; 4 + 44];
    request[3] = 44;
    request[16..20].copy_from_slice(&10_000i32.to_be_bytes());
    request[31] = 16;
    stream.write_all(&request).ok()?;
    let mut length = [0; 4];
    stream.read_exact(&mut length).ok()?;
    let mut response = vec![0; u32::from_be_bytes(length) as usize];
    stream.read_exact(&mut response).ok()?;
    assert_ne!(response[8..16], [0; 8], "a session has an id");
    Some(stream)
}

#[test]
fn a_server_alone_serves_clients_and_refuses_those_beyond_the_limit() {
    let dir = tempfile::tempdir().unwrap();
    let address = free_addresses(1)[0];
    let (handle, thread) = start(settings(1, dir.path(), address, Members::new()), |_| ()).unwrap();
    assert_eq!(word(address, "ruok"), "imok");
    let mut held = Vec::new();
    while let Some(client) = connect(address) {
        held.push(client);
    }
    assert!((1..=CLIENTS_MAX).contains(&held.len()), "{} clients of one address", held.len());
    drop(held);
    let begun = Instant::now();
    // The places of clients that left are free again.
    while connect(address).is_none() {
        assert!(begun.elapsed() < SOON);
        std::thread::sleep(Duration::from_millis(5));
    }
    handle.stop();
    thread.join().unwrap();
}

#[test]
fn three_servers_elect_over_their_ports_and_serve_clients() {
    let addresses = free_addresses(9);
    let peers: Members =
        (1..=3).map(|id| (ServerId(id as i64), Places::one(addresses[id * 3 - 3], addresses[id * 3 - 2]))).collect();
    let dirs: Vec<_> = (0..3).map(|_| tempfile::tempdir().unwrap()).collect();
    let clients = [addresses[2], addresses[5], addresses[8]];
    let begin =
        |id: usize| start(settings(id as i64, dirs[id - 1].path(), clients[id - 1], peers.clone()), |_| ()).unwrap();
    let servers: Vec<_> = (1..=3).map(begin).collect();
    let begun = Instant::now();
    while !servers.iter().all(|(handle, _)| handle.summary().serving) {
        assert!(begun.elapsed() < SOON, "{:?}", servers.iter().map(|(h, _)| h.summary()).collect::<Vec<_>>());
        std::thread::sleep(Duration::from_millis(10));
    }
    let leading = servers.iter().filter(|(handle, _)| handle.summary().role == RoleName::Leading).count();
    assert_eq!(leading, 1);
    assert!(clients.iter().all(|to| connect(*to).is_some()));
    for (handle, thread) in servers {
        handle.stop();
        thread.join().unwrap();
    }
}

/// A server of the nodes of a cluster; without `cluster`, of the version before TLS between them.
fn of_cluster(id: i64, dir: &std::path::Path, client: SocketAddr, peers: Members, cluster: Option<bool>) -> Running {
    let cluster =
        cluster.map(|demanded| Arc::new(ClusterTls::new(&crate::keys::Keys::of(&[7; 32]), demanded).unwrap()));
    let mut settings = settings(id, dir, client, peers);
    settings.security.peers.cluster = cluster;
    start(settings, |_| ()).unwrap()
}

type Running = (Handle, std::thread::JoinHandle<()>);

/// Waits until all serve, one leads and two follow it.
fn all_serve(servers: &[Running]) {
    let begun = Instant::now();
    loop {
        let all: Vec<_> = servers.iter().map(|(handle, _)| handle.summary()).collect();
        let leading: Vec<_> = all.iter().filter(|s| s.role == RoleName::Leading).collect();
        if all.iter().all(|s| s.serving) && matches!(leading[..], [one] if one.followers.len() == 2) {
            return;
        }
        assert!(begun.elapsed() < SOON, "{all:?}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_cluster_goes_from_clear_to_tls_alone_server_by_server_and_strangers_stay_outside() {
    let addresses = free_addresses(9);
    let peers: Members =
        (1..=3).map(|id| (ServerId(id as i64), Places::one(addresses[id * 3 - 3], addresses[id * 3 - 2]))).collect();
    let dirs: Vec<_> = (0..3).map(|_| tempfile::tempdir().unwrap()).collect();
    let begin = |id: usize, cluster: Option<bool>| {
        of_cluster(id as i64, dirs[id - 1].path(), addresses[id * 3 - 1], peers.clone(), cluster)
    };
    let mut servers: Vec<Running> = (1..=3).map(|id| begin(id, None)).collect();
    all_serve(&servers);
    let replace = |servers: &mut Vec<Running>, id: usize, cluster: Option<bool>| {
        let (handle, thread) = servers.remove(id - 1);
        handle.step_down(Duration::from_secs(2));
        handle.stop();
        drop(handle);
        thread.join().unwrap();
        servers.insert(id - 1, begin(id, cluster));
        all_serve(servers);
    };
    // Up, one back and up again, as an upgrade may go; then each demands TLS while the others do not yet.
    for (id, cluster) in [(1, Some(false)), (2, Some(false)), (2, None), (2, Some(false)), (3, Some(false))] {
        replace(&mut servers, id, cluster);
    }
    assert!(servers.iter().all(|(handle, _)| handle.quorum_tls() == "accepted"));
    for (handle, _) in &servers {
        handle.cluster.as_ref().unwrap().demand();
        all_serve(&servers);
    }
    replace(&mut servers, 1, Some(true));
    // A server that knows no TLS, and one with another key, find nobody.
    let (handle, thread) = servers.remove(2);
    handle.stop();
    thread.join().unwrap();
    let refused_before: u64 = servers.iter().map(|(handle, _)| handle.counters().refused).sum();
    let stranger = begin(3, None);
    std::thread::sleep(Duration::from_secs(2));
    assert!(!stranger.0.summary().serving);
    let refused: u64 = servers.iter().map(|(handle, _)| handle.counters().refused).sum();
    assert!(refused > refused_before, "{refused}");
    stranger.0.stop();
    stranger.1.join().unwrap();
    assert!(servers.iter().all(|(handle, _)| handle.summary().serving));
    for (handle, thread) in servers {
        handle.stop();
        thread.join().unwrap();
    }
}
