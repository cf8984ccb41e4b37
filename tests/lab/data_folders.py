#!/usr/bin/env python3
"""A data folder of Apache's, with every kind of transaction in it, is taken over by a server of ours after SIGKILL and given back:
the tree is the same each time, node by node, and so is its digest. Snapshots that ours packs (gz, snappy) are read by Apache servers.
data_folders.py [TRANSACTIONS]"""
import os, random, shutil, signal, subprocess, sys, tempfile, time
from ensemble import Server, HOSTS, apache_classpath
from wire import *

SETTINGS = "snapCount=7000\nmaxSessionTimeout=900000\n"
WINDOW = 400


def mixed(host, seed, count):
    """So many transactions of all kinds, from two sessions; ends with sessions and ephemeral nodes open."""
    rng = random.Random(seed)
    sessions = [Session(host, timeout=900_000) for _ in range(2)]
    for c in sessions:
        c.auth("digest", b"u:p")
    c = sessions[0]
    root = "/d%d" % seed
    c.ask("create", create(root))
    lists = [OPEN, [(31, "auth", "")], [(1, "world", "anyone"), (31, "digest", "a:b")], [(31, "ip", "127.0.0.1")]]
    nodes, waiting = [root], []

    def drain(down_to):
        while len(waiting) > down_to:
            session, xid = waiting.pop(0)
            session.reply(xid)
    for i in range(count):
        c = rng.choice(sessions)
        kind = rng.random()
        path = rng.choice(nodes[-2000:])
        new = "%s/n%d" % (path if path.count("/") < 6 else root, i)
        data = None if rng.random() < 0.1 else bytes(rng.getrandbits(8) for _ in range(rng.choice((0, 3, 100, 900))))
        if kind < 0.35:
            op = ("create", create(new, data, rng.choice(lists)))
            nodes.append(new)
        elif kind < 0.40:
            op = ("create", create("%s/s-" % root, data, flags=rng.choice((2, 3))))
        elif kind < 0.44:
            op = ("create", create("%s/e%d" % (root, i), data, flags=1))
        elif kind < 0.48:
            op = ("container", create("%s/c%d" % (root, i), data, flags=4))
        elif kind < 0.52:
            op = ("ttl", ttl("%s/t%d" % (root, i), rng.choice((10**7, 2**39)), data or b""))
        elif kind < 0.72:
            op = ("set", setting(path, data, rng.choice((-1, -1, 0))))
        elif kind < 0.80:
            op = ("delete", versioned(path, rng.choice((-1, 0))))
        elif kind < 0.84:
            op = ("set_acl", s(path) + acls(rng.choice(lists)) + struct.pack(">i", -1))
        elif kind < 0.97:
            parts = [("create", create(new, data)), ("set", setting(path, b"m")), ("check", versioned(path, rng.choice((-1, 5)))), ("create", create(new + "/x", b""))]
            op = ("multi", multi(*parts[:rng.randint(1, 4)]))
            nodes.append(new)
        else:
            op = ("create", create("/none/%d" % i))
        waiting.append((c, c.request(*op)))
        drain(WINDOW)
    drain(0)
    short = Session(host, timeout=900_000)
    short.ask("create", create(root + "/of-a-session-that-ends", flags=1))
    short.close()
    return sessions


def picture(host):
    """Every node as clients see it, but for what changes by looking."""
    c = Session(host, timeout=900_000)
    c.auth("digest", b"u:p")
    out, level = {}, ["/"]
    while level:
        asked = [(p, c.request("get", watched(p)), c.request("get_acl", s(p)), c.request("children", watched(p))) for p in level]
        below = []
        for p, get, acl, children in asked:
            err, r = c.reply(get)
            data = (r.buffer(), tuple(sorted(r.stat().items()))) if err == 0 else err
            err, r = c.reply(acl)
            acl = [(r.get("i"), r.text(), r.text()) for _ in range(r.get("i"))] if err == 0 else err
            err, r = c.reply(children)
            names = sorted(r.text() for _ in range(r.get("i"))) if err == 0 else err
            if p != "/zookeeper/config":
                out[p] = (data, acl, names)
            below += [(p if p != "/" else "") + "/" + n for n in names] if isinstance(names, list) else []
        level = below
    c.close()
    return out


def digest(server):
    lines = server.word("hash").splitlines()
    return dict(l.split(": ") for l in lines if ": " in l)


def same(what, a, b):
    differ = [p for p in sorted(set(a) | set(b)) if a.get(p) != b.get(p)]
    for p in differ[:5]:
        print("%s: %s\n   %s\n   %s" % (what, p, str(a.get(p))[:300], str(b.get(p))[:300]))
    assert not differ, "%s: %d of %d nodes differ" % (what, len(differ), len(a))
    print("%s: %d nodes the same" % (what, len(a)), flush=True)


def serve(folder, kind, packed=None):
    """packed: how the server packs its snapshots."""
    properties = {"zookeeper.snapshot.compression.method": packed} if packed else {}
    if kind != "trivet":
        # Without an appender Apache's servers log nothing, and nothing could be found in it.
        config = os.path.join(folder, "log4j.properties")
        with open(config, "w") as f:
            f.write("log4j.rootLogger=INFO, out\nlog4j.appender.out=org.apache.log4j.ConsoleAppender\n"
                    "log4j.appender.out.layout=org.apache.log4j.PatternLayout\nlog4j.appender.out.layout.ConversionPattern=%d %p %c %m%n\n")
        properties["log4j.configuration"] = "file:" + config
    server = Server(1, kind, folder, [1], (), SETTINGS + "digest.enabled=true\n", properties)
    server.start()
    end = time.time() + 60
    while server.mode() != "standalone":
        assert time.time() < end and server.process.poll() is None, "server (%s) does not start, see %s/log" % (kind, folder)
        time.sleep(0.05)
    return server


def tools_read(folder):
    """Apache's own tools read what a server of ours wrote."""
    files = os.path.join(folder, "data/version-2")
    ours = lambda prefix: [os.path.join(files, n) for n in sorted(os.listdir(files)) if n.startswith(prefix) and "." not in n[len(prefix):]]
    classpath = apache_classpath() + ":/usr/share/java/commons-cli.jar:/usr/share/java/commons-io.jar:/usr/share/java/snappy-java.jar"

    def run(what, path):
        out = subprocess.run(["java", "-cp", classpath, what, path], capture_output=True, text=True, timeout=120, cwd=folder)
        assert out.returncode == 0 and "CRC ERROR" not in out.stdout, "%s %s: %s" % (what, path, (out.stdout + out.stderr)[-800:])
        return out.stdout
    snapshot, log = ours("snapshot.")[-1], ours("log.")[-1]
    nodes = run("org.apache.zookeeper.server.SnapshotFormatter", snapshot).count("cZxid")
    txns = len(run("org.apache.zookeeper.server.persistence.TxnLogToolkit", log).splitlines()) - 2
    assert nodes > 100 and txns > 0, (nodes, txns)
    print("Apache's tools: %d nodes in %s, %d transactions in %s" % (nodes, os.path.basename(snapshot), txns, os.path.basename(log)), flush=True)


def packed_by_ours(folder, method, seed):
    """A server of ours packs its snapshots and is shut down; Apache's reads the newest one, whatever it packs itself."""
    files, ending = os.path.join(folder, "data/version-2"), "." + method
    ours = serve(folder, "trivet", method)
    for n in range(10):
        mixed(HOSTS[1], seed + n, 2_000)
        time.sleep(1.5)
        newest = max((n for n in os.listdir(files) if n.startswith("snapshot.")), key=lambda n: int(n.split(".")[1], 16))
        if newest.endswith(ending):
            break
    assert newest.endswith(ending), "a server of ours was to pack its snapshots: %s" % newest
    before = picture(HOSTS[1])
    ours.kill(signal.SIGTERM)
    snappy_java = "/usr/share/java/snappy-java.jar"
    assert method != "snappy" or os.path.exists(snappy_java), "apt-get install libsnappy-java"
    begin = os.path.getsize(folder + "/log")
    apache = serve(folder, "apache:%s:%s" % (apache_classpath(), snappy_java))
    same("packed by ours (%s), read by Apache" % method, before, picture(HOSTS[1]))
    apache.kill()
    with open(folder + "/log", errors="replace") as f:
        f.seek(begin)
        said = f.read()
    assert any("Reading snapshot" in l and newest in l for l in said.splitlines()), "Apache's was to read %s" % newest
    assert "Problem reading snap file" not in said, said[-2000:]


def main():
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 20_000
    folder = tempfile.mkdtemp(prefix="trivet-lab.")
    apache = serve(folder, "apache", "gz")
    sessions = mixed(HOSTS[1], 1, count)
    before = picture(HOSTS[1])
    apache.kill()
    packed = [n for n in os.listdir(folder + "/data/version-2") if n.endswith(".gz")]
    assert packed, "Apache was to pack its snapshots"
    ours = serve(folder, "trivet")
    same("taken over", before, picture(HOSTS[1]))
    # A session of Apache's goes on here.
    again = Session(HOSTS[1], session=sessions[0].id, password=sessions[0].password, timeout=900_000)
    assert again.id == sessions[0].id
    mixed(HOSTS[1], 2, count)
    # Apache compares digests behind the end of the snapshot that it reads: so much comes behind the newest one.
    snapshots = lambda: sorted(n for n in os.listdir(folder + "/data/version-2") if n.startswith("snapshot."))
    for seed in range(10, 20):
        time.sleep(1.5)
        newest = snapshots()
        mixed(HOSTS[1], seed, 1_500)
        time.sleep(0.2)
        if snapshots() == newest:
            break
    middle = picture(HOSTS[1])
    mine = digest(ours)
    mismatches = [l for l in ours.word("mntr").splitlines() if "digest_mismatches" in l]
    assert mismatches and mismatches[0].endswith("\t0"), mismatches
    ours.kill()
    tools_read(folder)
    # Debian's package lacks snappy.
    apache = serve(folder, "apache", "snappy" if os.environ.get("APACHE_CLASSPATH") else "gz")
    same("given back", middle, picture(HOSTS[1]))
    log = open(folder + "/log", errors="replace").read()
    assert "Reading snapshot" in log, "what Apache found is to be in its log"
    bad = [l for l in log.splitlines() if "Digests are not matching" in l or "digest mismatch" in l.lower()]
    theirs = digest(apache)
    both = [z for z in mine if z in theirs]
    assert all(mine[z] == theirs[z] for z in both), [(z, mine[z], theirs[z]) for z in both if mine[z] != theirs[z]][:5]
    print("%d digests compared, Apache's own check of the tree found %d differences" % (len(both), len(bad)))
    assert both and not bad, bad[:5]
    mixed(HOSTS[1], 3, count // 10)
    last = picture(HOSTS[1])
    apache.kill()
    ours = serve(folder, "trivet")
    same("taken over again", last, picture(HOSTS[1]))
    ours.kill()
    for seed, method in ((100, "gz"), (200, "snappy")):
        packed_by_ours(folder, method, seed)
    shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
