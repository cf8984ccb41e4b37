#!/usr/bin/env python3
"""The AdminServer and the audit log beside Apache's: the same requests to a server of ours and one of Debian's ZooKeeper, alone and
in an ensemble of three; every command must answer with the same names and kinds of values, and the audit logs must have the same lines."""
import base64, hashlib, http.client, json, os, re, shutil, ssl, sys, tempfile, time, urllib.error, urllib.request
from certificates import Authority, settings
from kazoo.client import KazooClient
from kazoo.security import make_acl, make_digest_acl
from ensemble import Ensemble, HOSTS, JARS, Server

PORT = 28080
NAMES = ("zookeeper zookeeper-jute slf4j-api slf4j-simple jetty9-server jetty9-servlet jetty9-http jetty9-io jetty9-util jetty9-security "
         "jetty9-util-ajax servlet-api jackson-core jackson-databind jackson-annotations metrics-core snappy-java netty-all commons-cli commons-io").split()
# Another release of Apache's brings its own jars; Jetty is Debian's, and the first binding of slf4j is the one that writes the audit log.
OTHER = os.environ.get("APACHE_CLASSPATH")
APACHE = "apache:" + ":".join(os.path.join(JARS, n + ".jar") for n in NAMES)
if OTHER:
    APACHE = "apache:%s/slf4j-simple.jar:%s:%s" % (JARS, OTHER, ":".join(os.path.join(JARS, n + ".jar") for n in NAMES if not n.startswith("zookeeper")))
SETTINGS = ("admin.enableServer=true\nadmin.serverPort=%d\naudit.enable=true\nreconfigEnabled=true\n"
            "DigestAuthenticationProvider.superDigest=super:D/InIHSb7yEEbrWz8b9l71RjZJU=\n" % PORT)
COMMANDS = ("configuration connection_stat_reset connections dirs dump environment get_trace_mask hash initial_configuration is_read_only "
            "last_snapshot leader monitor ruok server_stats set_trace_mask stat_reset stats system_properties voting_view watch_summary "
            "watches watches_by_path zabstate conf lead set_trace_mask?traceMask=x nonsense").split()
# The environment and system properties of the process; figures of the inside of Apache's request processing (docs/compatibility.md).
OWN_NAMES = {"environment", "system_properties", "monitor"}


def get(host, command, headers={}, data=None):
    """Status, headers and body."""
    request = urllib.request.Request("http://%s:%d/commands/%s" % (host, PORT, command), headers=headers, data=data)
    try:
        with urllib.request.urlopen(request, timeout=20) as r:
            return r.status, r.headers, r.read()
    except urllib.error.HTTPError as e:
        return e.code, e.headers, e.read()


def wait_for(host):
    """Jetty is there a while after the server serves."""
    end = time.time() + 60
    while True:
        try:
            return get(host, "ruok")
        except OSError:
            assert time.time() < end, "no AdminServer"
            time.sleep(0.1)


def shape(v):
    """Names and kinds of values; numbers of sessions and times of their ends are whatever they are."""
    if isinstance(v, dict):
        return {"N" if re.fullmatch(r"-?\d+", k) else k: shape(x) for k, x in v.items()}
    if isinstance(v, list):
        kinds = []
        for x in map(shape, v):
            if x not in kinds:
                kinds.append(x)
        return kinds
    return "number" if isinstance(v, (int, float)) and not isinstance(v, bool) else type(v).__name__


def attempt(f, *args, **kw):
    try:
        return f(*args, **kw)
    except Exception:
        return None


def operations(host):
    """Every kind of change, done and refused."""
    zk = KazooClient("%s:2181" % host, timeout=10)
    zk.start(timeout=30)
    for path in ("/a", "/a", "/none/b"):
        attempt(zk.create, path, b"x")
    zk.create("/e", b"x", ephemeral=True)
    zk.create("/s", b"x", ephemeral=True, sequence=True)
    zk.create("/s", b"x", sequence=True)
    zk.set("/a", b"y")
    attempt(zk.set, "/a", b"y", version=9)
    for path in ("/nix", "/a"):
        attempt(zk.get, path)
    attempt(zk.delete, "/nix")
    anyone = make_acl("world", "anyone", all=True)
    zk.set_acls("/a", [anyone, make_digest_acl("bob", "x", read=True)])
    attempt(zk.set_acls, "/nix", [anyone])
    zk.create("/p", b"", acl=[make_acl("ip", "10.1.1.1", all=True)])
    attempt(zk.set, "/p", b"")
    attempt(zk.create, "/p/q", b"")
    zk.add_auth("digest", "bob:secret")
    t = zk.transaction()
    t.create("/t", b"1")
    t.set_data("/t", b"2")
    t.check("/t", 1)
    t.delete("/t")
    t.create("/u", ephemeral=True)
    t.commit()
    t = zk.transaction()
    t.create("/v", b"1")
    t.delete("/nix")
    t.commit()
    zk.delete("/p")
    attempt(zk.reconfig, joining="server.9=127.0.0.9:1:2;3", leaving=None, new_members=None)
    # A server that does not do what it was asked for says so and ends the connection, as Apache's does.
    zk.retry(zk.get, "/a", watch=lambda e: None)
    zk.retry(zk.exists, "/zz", watch=lambda e: None)
    return zk


def audited(log):
    """The lines of the audit log, without what differs from run to run; a client's names are a set."""
    out = []
    for line in re.findall(r"((?:session=|user=)[^\n]*result=\w+)", log):
        fields = dict(f.split("=", 1) for f in re.sub(r"\x1b\[[0-9;]*m", "", line).split("\t"))
        fields["user"] = ",".join(sorted(fields["user"].split(",")))
        fields.pop("session", None)
        out.append(sorted(fields.items()))
    # The znodes of a session are a set.
    gone = [l for l in out if ("operation", "ephemeralZNodeDeletionOnSessionCloseOrExpire") in l]
    # Only ours has the root's list changed, for its snapshots.
    return [l for l in out if l not in gone and ("znode", "/") not in l] + sorted(gone)


def answers(host, commands=COMMANDS):
    wait_for(host)
    out = {}
    for command in commands:
        status, headers, body = get(host, command)
        v = json.loads(body)
        out[command] = (status, headers["Content-Type"].split(";")[0], v)
    return out


def compared(ours, apache):
    wrong = []
    for command in apache:
        (status, kind, a), (own_status, own_kind, o) = apache[command], ours[command]
        if (status, kind, a["command"], a["error"]) != (own_status, own_kind, o["command"], o["error"]):
            wrong.append("%s: %s" % (command, (status, kind, a["command"], a["error"], own_status, own_kind, o["command"], o["error"])))
        if command not in OWN_NAMES and shape(a) != shape(o):
            wrong.append("%s:\nApache %s\nours   %s" % (command, json.dumps(shape(a), sort_keys=True), json.dumps(shape(o), sort_keys=True)))
    assert not wrong, "\n".join(wrong)
    both = set(apache["monitor"][2]) & set(ours["monitor"][2])
    print("%d commands answer alike; monitor has %d figures of Apache's %d" % (len(apache), len(both), len(apache["monitor"][2])))
    wanted = {"version", "server_state", "znode_count", "watch_count", "ephemerals_count", "approximate_data_size", "avg_latency", "uptime",
              "outstanding_requests", "num_alive_connections", "packets_sent", "packets_received", "open_file_descriptor_count"}
    assert wanted <= both, wanted - both


def alone(kind):
    folder = tempfile.mkdtemp(prefix="trivet-lab.")
    server = Server(1, kind, folder, [1], [], SETTINGS + "admin.serverAddress=%s\n" % HOSTS[1])
    server.start()
    try:
        end = time.time() + 60
        while server.mode() != "standalone":
            assert time.time() < end and server.process.poll() is None, open(os.path.join(folder, "log")).read()[-2000:]
            time.sleep(0.1)
        zk = operations(HOSTS[1])
        found = answers(HOSTS[1])
        listed = get(HOSTS[1], "")[2].decode()
        names = re.findall(r'<a href="/commands/\w+">(\w+)</a>', listed)
        posted = get(HOSTS[1], "ruok", data=b"x")[0]
        if kind == "trivet":
            snapshots(HOSTS[1])
        zk.stop()
        time.sleep(1)
        server.kill(15)
        log = open(os.path.join(folder, "log"), errors="replace").read()
    finally:
        server.kill()
    return found, names, posted, audited(log)


def snapshots(host):
    """The one command that is not for everybody, and that costs something."""
    password = {"Authorization": "digest super:test"}
    assert get(host, "snapshot")[0] == 401
    assert get(host, "snapshot", {"Authorization": "x509"})[0] == 401
    status, headers, body = get(host, "snapshot", password)
    assert status == 200 and body[:4] == b"ZKSN" and len(body) == int(headers["snapshot_size"]), (status, body[:100])
    assert headers["last_zxid"].startswith("0x") and headers["Content-Type"] == "application/octet-stream", headers
    assert get(host, "snapshot", password)[0] == 429, "snapshots are not limited in rate"
    zk = KazooClient("%s:2181" % host)
    zk.start(timeout=20)
    digest = base64.b64encode(hashlib.sha1(b"ann:x").digest()).decode()
    zk.set_acls("/", [make_acl("digest", "ann:" + digest, all=True), make_acl("world", "anyone", read=True, create=True)])
    zk.stop()
    assert get(host, "snapshot", {"Authorization": "digest eve:x"})[0] == 403
    assert get(host, "snapshot", {"Authorization": "digest ann:x"})[0] == 429
    print("snapshot: asks for authorisation, is limited in rate, and sends a snapshot")


def restores(host):
    """A snapshot takes the place of all that a standalone server has."""
    password = {"Authorization": "digest super:test"}
    octets = {**password, "Content-Type": "application/octet-stream"}
    kept = KazooClient("%s:2181" % host, timeout=30)
    kept.start(timeout=20)
    kept.create("/a", b"in the snapshot")
    in_snapshot = kept.client_id
    snapshot = get(host, "snapshot", password)[2]
    assert get(host, "restore", password)[0] == 405
    assert get(host, "restore", data=snapshot)[0] == 401
    zk = KazooClient("%s:2181" % host, timeout=10)
    zk.start(timeout=20)
    names, session = set(zk.get_children("/")), zk.client_id
    own, seen = zk.get("/a")[0], zk.last_zxid
    zk.set("/a", b"after the snapshot")
    zk.create("/later", b"x")
    status, _, body = get(host, "restore", octets, data=snapshot)
    answered = json.loads(body)
    assert status == 200 and answered["command"] == "restore" and answered["error"] is None, (status, body)
    assert answered["last_zxid"] > seen, "clients must not see the past: %s" % answered
    end = time.time() + 30
    while zk.retry(zk.get, "/a")[0] != own:
        assert time.time() < end, "the old value comes back"
        time.sleep(0.1)
    assert set(zk.retry(zk.get_children, "/")) == names and zk.retry(zk.exists, "/later") is None
    assert zk.client_id[0] != session[0], "a session that the snapshot does not have: %s" % (zk.client_id,)
    assert kept.retry(kept.get, "/a")[0] == own and kept.client_id == in_snapshot, "a session that the snapshot has goes on"
    kept.stop()
    zk.retry(zk.create, "/written-since", b"y")
    assert zk.get("/written-since")[1].czxid > answered["last_zxid"]
    zk.stop()
    assert get(host, "restore", octets, data=snapshot)[0] == 429, "restores are not limited in rate"
    print("restore: the znodes of the snapshot, and later ids; limited in rate")


def restored_and_killed():
    """A restored tree is still there after SIGKILL; uploads that are no snapshot change nothing; a server of an ensemble refuses."""
    folder = tempfile.mkdtemp(prefix="trivet-lab.")
    server = Server(1, "trivet", folder + "/limited", [1], [], SETTINGS + "admin.serverAddress=%s\n" % HOSTS[1])
    server.start()
    try:
        wait_for(HOSTS[1])
        restores(HOSTS[1])
    finally:
        server.kill()
    server = Server(1, "trivet", folder + "/unlimited", [1], [], SETTINGS + "admin.rateLimiterIntervalInMS=0\nadmin.serverAddress=%s\n" % HOSTS[1])
    password = {"Authorization": "digest super:test", "Content-Type": "application/octet-stream"}

    def client():
        zk = KazooClient("%s:2181" % HOSTS[1], timeout=10)
        zk.start(timeout=30)
        return zk
    server.start()
    try:
        wait_for(HOSTS[1])
        zk = client()
        big = {"/n%d" % i: os.urandom(1000) for i in range(2_000)}
        for path, data in big.items():
            zk.create_async(path, data)
        zk.sync("/")
        snapshot = get(HOSTS[1], "snapshot", password)[2]
        zk.create("/since", b"")
        for wrong in (b"x", b"", snapshot[:-1000], snapshot[:5000], snapshot[:9000] + b"?" + snapshot[9001:]):
            status, _, body = get(HOSTS[1], "restore", password, data=wrong)
            assert status == 500 and "nothing changed" in json.loads(body)["error"], (status, body)
            assert zk.exists("/since") and zk.connected, "a broken snapshot changed something"
        for path in list(big)[:500]:
            zk.delete(path)
        assert get(HOSTS[1], "restore", password, data=snapshot)[0] == 200
        server.kill()
        zk.stop()
        server.start()
        zk = client()
        assert zk.exists("/since") is None and all(zk.get(p)[0] == d for p, d in big.items()), "not what was restored"
        left = [n for n in os.listdir(server.data + "/version-2") if n.startswith("trivet.received")]
        assert not left, left
        # Twice, and the log that follows is read at the next start.
        zk.create("/log", b"")
        assert get(HOSTS[1], "restore", password, data=snapshot)[0] == 200
        zk.retry(zk.create, "/log2", b"")
        zk.stop()
        server.kill()
        server.start()
        zk = client()
        assert zk.exists("/log") is None and zk.exists("/log2") is not None
        zk.stop()
    finally:
        server.kill()
    shutil.rmtree(folder)
    print("restore: %d bytes stay after SIGKILL; five broken uploads changed nothing" % len(snapshot))
    return snapshot


def each_restores_each():
    """A snapshot of each AdminServer, restored by each: its znodes, and the zxid that it reaches. (Apache restores from 3.9 on.)"""
    password = {"Authorization": "digest super:test", "Content-Type": "application/octet-stream"}
    settings = SETTINGS + "admin.rateLimiterIntervalInMS=0\nadmin.serverAddress=%s\n" % HOSTS[1]

    def served(kind, do, lines=""):
        folder = tempfile.mkdtemp(prefix="trivet-lab.")
        server = Server(1, kind, folder, [1], [], settings + lines)
        server.start()
        try:
            wait_for(HOSTS[1])
            zk = KazooClient("%s:2181" % HOSTS[1], timeout=10)
            zk.start(timeout=30)
            out = do(zk)
            zk.stop()
            server.kill(15)
            return out, open(os.path.join(folder, "log"), errors="replace").read()
        finally:
            server.kill()
            shutil.rmtree(folder)

    def made(zk):
        zk.create("/kept", b"x" * 1000)
        for n in range(300):
            zk.create("/kept/n%d" % n, b"%d" % n)
        last = zk.set("/kept", b"last").mzxid
        snapshot = get(HOSTS[1], "snapshot", password)[2]
        return snapshot, last

    def restored(snapshot):
        def do(zk):
            zk.create("/gone", b"")
            status, _, body = get(HOSTS[1], "restore", password, data=snapshot)
            assert status == 200, (status, body)
            zk.stop()
            zk.start(timeout=30)
            found = {p: zk.retry(zk.get, p)[0] for p in ["/kept"] + ["/kept/n%d" % n for n in range(300)]}
            gone = zk.exists("/gone")
            return json.loads(body)["last_zxid"], found, gone, zk.create("/since", b"", include_data=True)[1].czxid
        return do
    znodes = {"/kept": b"last", **{"/kept/n%d" % n: b"%d" % n for n in range(300)}}
    names = {"trivet": "Trivet", APACHE: "Apache"}
    for ours, lines in (("trivet", ""), ("trivet", "digest.enabled=false\n"), (APACHE, "")):
        (snapshot, last), _ = served(ours, made, lines)
        for into in ("trivet", APACHE):
            (zxid, found, gone, czxid), log = served(into, restored(snapshot), lines)
            zxid = int(zxid, 16) if isinstance(zxid, str) else zxid
            assert found == znodes and gone is None, (ours, into, gone)
            # (Apache's own counter of transactions goes on where it was, whoever made the snapshot.)
            assert zxid >= last and (czxid > zxid or into != "trivet"), "a snapshot up to 0x%x of %s becomes 0x%x at %s, and 0x%x follows" % (last, names[ours], zxid, names[into], czxid)
            assert "Digests are not matching" not in log and "EOFException" not in log, log[-2000:]
            print("%s%s restored by %s: up to 0x%x, then 0x%x" % (names[ours], " without digests" if lines else "", names[into], zxid, czxid), flush=True)
    # The answer of 3.9 to the form that it takes for an older release's.
    (snapshot, last), _ = served("trivet", made, "serializeLastProcessedZxid.enabled=false\n")
    (zxid, found, _, _), _ = served(APACHE, restored(snapshot))
    assert found == znodes and int(str(zxid), 0) < last, "the setting has no effect: 0x%x" % zxid


def asked(url, headers={}, **certificate):
    """The status of an answer over TLS, or what kept the connection from being made."""
    context = ssl.create_default_context(cafile=certificate.get("ca"))
    if certificate.get("own"):
        context.load_cert_chain(certificate["own"]["cert"], certificate["own"]["key"])
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=20, context=context if url.startswith("https") else None) as r:
            return r.status
    except urllib.error.HTTPError as e:
        return e.code
    except (OSError, http.client.HTTPException) as e:
        return type(e).__name__


def over_tls():
    folder = tempfile.mkdtemp(prefix="trivet-lab.")
    authority = Authority(folder)
    own, client = authority.issue("server"), authority.issue("client")
    certificates = settings("ssl.quorum.", own, authority, "pem")
    plain, secure = ("%s://%s:%d/commands/" % (scheme, HOSTS[1], PORT) for scheme in ("http", "https"))
    for lines, wanted in (("admin.forceHttps=true\n", (False, True, True)), ("admin.portUnification=true\n", (True, True, True)),
                          ("admin.forceHttps=true\nadmin.needClientAuth=true\nauthProvider.1=org.apache.zookeeper.server.auth.X509AuthenticationProvider\n", (False, False, True))):
        server = Server(1, "trivet", os.path.join(folder, "server"), [1], [], SETTINGS + "admin.serverAddress=%s\n" % HOSTS[1] + lines + certificates)
        server.start()
        try:
            end = time.time() + 60
            while server.mode() != "standalone":
                assert time.time() < end and server.process.poll() is None, lines
                time.sleep(0.1)
            found = [asked(plain + "ruok"), asked(secure + "ruok", ca=authority.pem), asked(secure + "ruok", ca=authority.pem, own=client)]
            assert [f == 200 for f in found] == list(wanted), (lines, found)
            assert asked(secure + "ruok") != 200, "the client's trust does not matter"
            if "needClientAuth" in lines:
                assert asked(secure + "snapshot", {"Authorization": "x509"}, ca=authority.pem, own=client) == 200
        finally:
            server.kill()
    shutil.rmtree(folder)
    print("over TLS: alone, beside plain HTTP, and with certificates of callers")


def in_ensemble(kind):
    e = Ensemble({i: kind for i in (1, 2, 3)}, settings=SETTINGS)
    for i, server in e.servers.items():
        with open(os.path.join(server.folder, "zoo.cfg"), "a") as f:
            f.write("admin.serverAddress=%s\n" % HOSTS[i])
    with e:
        e.wait_all()
        leader = e.leader().number
        follower = next(i for i in e.servers if i != leader)
        zk = operations(HOSTS[follower])
        # Apache's member of an ensemble forgets its configuration's text.
        commands = [c for c in COMMANDS if c not in ("nonsense", "initial_configuration")]
        found = {role: answers(HOSTS[i], commands) for role, i in (("leader", leader), ("follower", follower))}
        if kind == "trivet":
            status, _, body = get(HOSTS[leader], "restore", {"Authorization": "digest super:test"}, data=b"x")
            assert status == 503 and "ensemble" in json.loads(body)["error"], (status, body)
        zk.stop()
    return found


def main():
    ours, names, posted, lines = alone("trivet")
    apache, apache_names, apache_posted, apache_lines = alone(APACHE)
    compared(ours, apache)
    missing = set(apache_names) - set(names)
    assert missing <= {"observers", "observer_connection_stat_reset"} and posted == 405 and apache_posted == (500 if OTHER else 405), (missing, posted, apache_posted)
    assert lines == apache_lines, "\n".join("%s %s" % pair for pair in zip(lines, apache_lines) if pair[0] != pair[1]) or (len(lines), len(apache_lines))
    print("%d lines of the audit log are Apache's" % len(lines))
    restored_and_killed()
    if OTHER:
        each_restores_each()
    over_tls()
    ours, apache = in_ensemble("trivet"), in_ensemble(APACHE)
    for role in ("leader", "follower"):
        compared(ours[role], apache[role])
    print("admin: ok")


if __name__ == "__main__":
    sys.exit(main())
