use super::*;
use crate::nfs::rpc::{PROGRAM_MOUNT, PROGRAM_NFS};

fn text(r: &mut XdrReader<'_>) -> String {
    String::from_utf8(r.bytes(256).unwrap()).unwrap()
}

fn table(ip: &str) -> Table {
    let service = |program, transport| Service { program, version: 3, transport, port: 2049 };
    let services = vec![
        service(PROGRAM_NFS, Transport::Tcp),
        service(PROGRAM_MOUNT, Transport::Tcp),
        service(PROGRAM_MOUNT, Transport::Udp),
    ];
    Table::new(ip.parse().unwrap(), PORT, services)
}

fn request(program: u32, version: u32, procedure: u32, arguments: impl Fn(&mut XdrWriter)) -> Vec<u8> {
    let mut w = XdrWriter::default();
    w.u32(7).u32(0).u32(2).u32(program).u32(version).u32(procedure).u32(0).u32(0).u32(0).u32(0);
    arguments(&mut w);
    w.buf
}

/// The words of a reply after its xid: type, accepted or not, verifier (two), status, results.
fn words(reply: Option<Vec<u8>>) -> Vec<u32> {
    let reply = reply.expect("a reply");
    let words: Vec<u32> = reply.chunks(4).map(|c| u32::from_be_bytes(c.try_into().unwrap())).collect();
    assert_eq!(words[0], 0x8000_0000 | (reply.len() as u32 - 4), "the record mark");
    assert_eq!(words[1], 7, "the xid");
    words[2..].to_vec()
}

fn get_port(program: u32, version: u32, protocol: u32) -> u32 {
    let call = request(PROGRAM_PORTMAP, 2, 3, |w| {
        w.u32(program).u32(version).u32(protocol).u32(0);
    });
    let reply = words(table("10.0.10.70").answer(&call, Transport::Udp));
    assert_eq!(reply[..5], [1, 0, 0, 0, 0]);
    reply[5]
}

fn get_address(ip: &str, version: u32, procedure: u32, program: u32, netid: &str, over: Transport) -> String {
    let call = request(PROGRAM_PORTMAP, version, procedure, |w| {
        w.u32(program).u32(3).opaque(netid.as_bytes()).opaque(b"").opaque(b"");
    });
    let reply = table(ip).answer(&call, over).unwrap();
    assert_eq!(words(Some(reply.clone()))[..5], [1, 0, 0, 0, 0]);
    text(&mut XdrReader::new(&reply[28..]))
}

#[test]
fn only_what_is_served_has_a_port() {
    assert_eq!(get_port(PROGRAM_NFS, 3, 6), 2049);
    assert_eq!(get_port(PROGRAM_MOUNT, 3, 6), 2049);
    assert_eq!(get_port(PROGRAM_MOUNT, 3, 17), 2049);
    assert_eq!(get_port(PROGRAM_PORTMAP, 2, 17), 111);
    // Another version, another transport, another program, no protocol at all.
    for (program, version, protocol) in
        [(PROGRAM_NFS, 4, 6), (PROGRAM_NFS, 3, 17), (PROGRAM_MOUNT, 1, 6), (100_021, 4, 6), (PROGRAM_NFS, 3, 99)]
    {
        assert_eq!(get_port(program, version, protocol), 0, "{program} {version} {protocol}");
    }
}

#[test]
fn rpcbind_names_addresses() {
    use Transport::{Tcp, Udp};
    for (version, procedure) in [(3, 3), (4, 3), (4, 9)] {
        assert_eq!(get_address("10.0.10.70", version, procedure, PROGRAM_NFS, "tcp", Tcp), "10.0.10.70.8.1");
        assert_eq!(get_address("fd00::70", version, procedure, PROGRAM_NFS, "tcp6", Tcp), "fd00::70.8.1");
        // The transport of the call counts where none is named, and the one that is named where it differs.
        assert_eq!(get_address("10.0.10.70", version, procedure, PROGRAM_MOUNT, "", Udp), "10.0.10.70.8.1");
        assert_eq!(get_address("10.0.10.70", version, procedure, PROGRAM_NFS, "", Udp), "");
        assert_eq!(get_address("10.0.10.70", version, procedure, PROGRAM_NFS, "tcp", Udp), "10.0.10.70.8.1");
        // An IPv4 address serves nobody over IPv6.
        assert_eq!(get_address("10.0.10.70", version, procedure, PROGRAM_NFS, "tcp6", Tcp), "");
        assert_eq!(get_address("10.0.10.70", version, procedure, 100_021, "tcp", Tcp), "");
    }
}

#[test]
fn dumps_list_all_of_it() {
    let t = table("10.0.10.70");
    let reply = words(t.answer(&request(PROGRAM_PORTMAP, 2, 4, |_| {}), Transport::Tcp));
    let listed: Vec<&[u32]> = reply[5..].chunks(5).collect();
    assert_eq!(listed.len(), 10, "nine services and the end");
    assert!(listed.contains(&&[1, PROGRAM_NFS, 3, 6, 2049][..]) && listed[9] == [0]);
    for version in [3, 4] {
        let reply = t.answer(&request(PROGRAM_PORTMAP, version, 4, |_| {}), Transport::Tcp).unwrap();
        let mut r = XdrReader::new(&reply[28..]);
        let mut listed = Vec::new();
        while r.bool().unwrap() {
            let (program, version) = (r.u32().unwrap(), r.u32().unwrap());
            listed.push((program, version, text(&mut r), text(&mut r), text(&mut r)));
        }
        assert_eq!(listed.len(), 9);
        let mount = (PROGRAM_MOUNT, 3, "udp".into(), "10.0.10.70.8.1".into(), "trivet".into());
        assert!(listed.contains(&mount), "{listed:?}");
    }
}

#[test]
fn other_calls_get_the_error_that_says_why() {
    let t = table("10.0.10.70");
    let answer = |program, version, procedure| {
        let call = request(program, version, procedure, |w| {
            w.u32(1).u32(1);
        });
        words(t.answer(&call, Transport::Udp))
    };
    // Null of all three versions.
    for version in [2, 3, 4] {
        assert_eq!(answer(PROGRAM_PORTMAP, version, 0), [1, 0, 0, 0, 0]);
    }
    // SET, UNSET, CALLIT and whatever else there is: PROC_UNAVAIL, also where a procedure exists in another version only.
    let unavailable = |version| (0..13).filter(|p| answer(PROGRAM_PORTMAP, version, *p) == [1, 0, 0, 0, 3]).collect();
    let expected: [(u32, Vec<u32>); 3] = [
        (2, vec![1, 2, 5, 6, 7, 8, 9, 10, 11, 12]),
        (3, vec![1, 2, 5, 6, 7, 8, 9, 10, 11, 12]),
        (4, vec![1, 2, 5, 6, 7, 8, 10, 11, 12]),
    ];
    for (version, procedures) in expected {
        let found: Vec<u32> = unavailable(version);
        assert_eq!(found, procedures, "version {version}");
    }
    // PROG_MISMATCH with the versions that there are; PROG_UNAVAIL.
    assert_eq!(answer(PROGRAM_PORTMAP, 1, 0), [1, 0, 0, 0, 2, 2, 4]);
    assert_eq!(answer(PROGRAM_PORTMAP, 5, 3), [1, 0, 0, 0, 2, 2, 4]);
    assert_eq!(answer(PROGRAM_NFS, 3, 0), [1, 0, 0, 0, 1]);
    // GARBAGE_ARGS.
    assert_eq!(answer(PROGRAM_PORTMAP, 2, 3), [1, 0, 0, 0, 4]);
    assert_eq!(answer(PROGRAM_PORTMAP, 4, 3), [1, 0, 0, 0, 4]);
}

#[test]
fn replies_and_noise_get_no_reply() {
    let t = table("10.0.10.70");
    let call = request(PROGRAM_PORTMAP, 2, 3, |w| {
        w.u32(PROGRAM_NFS).u32(3).u32(6).u32(0);
    });
    let reply = t.answer(&call, Transport::Udp).unwrap();
    // Two portmappers that get each other's replies would otherwise answer each other forever.
    assert_eq!(t.answer(&reply[4..], Transport::Udp), None);
    for cut in 0..40 {
        assert_eq!(t.answer(&call[..cut], Transport::Udp), None, "{cut}");
    }
    assert!(t.answer(&vec![0xff; CALL_BYTES_MAX], Transport::Udp).is_none());
}

#[test]
fn an_answer_that_mounts_need_is_no_longer_than_its_call() {
    let t = table("10.0.10.70");
    let port = request(PROGRAM_PORTMAP, 2, 3, |w| {
        w.u32(PROGRAM_NFS).u32(3).u32(6).u32(0);
    });
    let address = request(PROGRAM_PORTMAP, 4, 3, |w| {
        w.u32(PROGRAM_NFS).u32(3).opaque(b"tcp").opaque(b"10.0.10.70.0.111").opaque(b"");
    });
    for call in [port, address] {
        let reply = t.answer(&call, Transport::Udp).unwrap();
        assert!(reply.len() - 4 <= call.len());
    }
}

#[test]
fn a_registration_is_what_another_portmapper_reads() {
    let nfs = Service { program: PROGRAM_NFS, version: 3, transport: Transport::Tcp, port: 2049 };
    let set = call(9, Ask::Set, &nfs, None);
    let header = rpc::parse_call(&set[4..]).unwrap();
    assert_eq!((header.xid, header.program, header.version, header.procedure), (9, PROGRAM_PORTMAP, 2, 1));
    let mut r = XdrReader::new(&set[4 + header.body_at..]);
    assert_eq!([(); 4].map(|()| r.u32().unwrap()), [PROGRAM_NFS, 3, 6, 2049]);
    let set = call(9, Ask::Set, &nfs, Some("fd00::7".parse().unwrap()));
    let header = rpc::parse_call(&set[4..]).unwrap();
    assert_eq!((header.version, header.procedure), (4, 1));
    let mut r = XdrReader::new(&set[4 + header.body_at + 8..]);
    assert_eq!((text(&mut r), text(&mut r)), ("tcp6".into(), "fd00::7.8.1".into()));
    // A reply of this table is understood by this reader of replies.
    let ask = call(11, Ask::GetPort, &nfs, None);
    let reply = table("10.0.10.70").answer(&ask[4..], Transport::Tcp).unwrap();
    assert_eq!(reply_number(11, &reply[4..]), Some(2049));
    assert_eq!(reply_number(12, &reply[4..]), None, "another call's");
    let refused = table("10.0.10.70").answer(&set[4..], Transport::Tcp).unwrap();
    assert_eq!(reply_number(9, &refused[4..]), None, "PROC_UNAVAIL is no number");
}
