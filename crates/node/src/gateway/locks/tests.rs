use super::super::addresses::Served;
use super::super::tests::gateway;
use super::*;
use trivet_storage::nfs::xdr::XdrWriter;

fn record(program: u32, version: u32, procedure: u32, arguments: &[u8]) -> Bytes {
    let mut w = XdrWriter::default();
    w.u32(9).u32(0).u32(2).u32(program).u32(version).u32(procedure).u32(0).u32(0).u32(0).u32(0).fixed(arguments);
    w.buf.into()
}

/// The words of a reply after its xid.
async fn answer(inner: &Arc<Inner>, record: Bytes) -> Vec<u32> {
    let (from, server) = ("10.1.0.9".parse().unwrap(), "10.1.0.70".parse().unwrap());
    let asked = tokio::time::timeout(Duration::from_secs(10), inner.datagram(from, server, &record));
    let reply = asked.await.unwrap().unwrap();
    reply[8..].chunks(4).map(|b| u32::from_be_bytes(b.try_into().unwrap())).collect()
}

#[tokio::test]
async fn what_is_not_served_is_refused_as_rpc_says() {
    let inner = gateway();
    let accepted = |stat: &[u32]| [&[1, 0, 0, 0], stat].concat();
    let nlm = nlm::PROGRAM_NLM;
    assert_eq!(answer(&inner, record(nlm, 4, 0, &[])).await, accepted(&[0]));
    assert_eq!(answer(&inner, record(nlm, 3, 0, &[])).await, accepted(&[2, 4, 4]));
    assert_eq!(answer(&inner, record(nlm, 4, 7, &[])).await, accepted(&[3]), "asynchronous");
    assert_eq!(answer(&inner, record(nlm, 4, 2, &[0, 0, 0])).await, accepted(&[4]));
    let nsm = nlm::PROGRAM_NSM;
    assert_eq!(answer(&inner, record(nsm, 1, 1, &[0; 4])).await, accepted(&[0, 1, nlm::OUR_START]));
    assert_eq!(answer(&inner, record(nsm, 1, 2, &[])).await, accepted(&[3]), "nobody is monitored for others");
    assert_eq!(answer(&inner, record(nsm, 2, 0, &[])).await, accepted(&[2, 1, 1]));
}

#[tokio::test]
async fn a_lock_of_what_is_no_file_of_this_cluster_is_stale() {
    let inner = gateway();
    let mut w = XdrWriter::default();
    w.opaque(b"cook").bool(true).bool(true).opaque(b"host").opaque(&[7; 32]).opaque(b"oh").u32(1).u64(0).u64(0);
    w.bool(false).u32(3);
    let words = answer(&inner, record(nlm::PROGRAM_NLM, 4, 2, &w.buf)).await;
    assert_eq!(words[4..], [0, 4, u32::from_be_bytes(*b"cook"), LockStat::StaleHandle.code()]);
}

#[tokio::test]
async fn a_client_is_called_back_by_the_gateway_that_has_its_address() {
    let inner = gateway();
    let lock = WaitingLock { server: "10.1.0.70".into(), ..Default::default() };
    let g = Granted { file: FileId(66), lock };
    inner.call_back(g.clone(), true);
    assert!(inner.call_backs.0.lock().is_empty());
    inner.addresses.lock().insert("10.1.0.70".into(), Served { listening: true, ..Default::default() });
    inner.call_back(g.clone(), true);
    inner.call_back(g, false);
    assert_eq!(inner.call_backs.0.lock().len(), 1, "once at a time");
}
