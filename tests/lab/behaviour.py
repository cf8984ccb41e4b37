#!/usr/bin/env python3
"""The behaviour of a server, line by line: each check runs against three servers of ours and against three of Apache's, and both
must do the same. Where they differ on purpose, DIFFERENT says so; what Apache 3.8.0 lacks, NEWER names with what 3.9 does."""
import argparse, hashlib, json, os, struct, subprocess, sys, time
from ensemble import Ensemble, HOSTS
from wire import *

SETTINGS = ("DigestAuthenticationProvider.superDigest=super:D/InIHSb7yEEbrWz8b9l71RjZJU=\nextendedTypesEnabled=true\n"
            "enforceQuota=true\nmaxSessionTimeout=40000\n")
PROPERTIES = {"znode.container.checkIntervalMs": 500, "znode.container.maxNeverUsedIntervalMs": 0}
CHECKS = []
# Checks behind which another release of Apache's answers nobody any more. Debian's 3.8.0 has to say what ours says.
BREAKS = {"requests that are cut off": "3.9.5 stops serving"}
# Checks whose outcome differs from Apache 3.8.0's because ours does what 3.9 does (SPEC of 3.9.5, read in its source).
NEWER = {
    "35 events of nodes that may not be read": "3.8.4 and 3.9.2 hide them",
    "12 the zxid of an event": "3.9.0 says which transaction it was",
    "exists asks for READ": "since 3.8.4 and 3.9.2",
    "check alone": "refused since 3.8.5 and 3.9.3",
    "26 the parts of a multi's answer": "a create2 in a multi gets its stat since 3.9",
    "32 a persistent watch and a one-shot one": "up to 3.8 the one-shot watch took the persistent one with it",
}
DIFFERENT = {
    "deleteContainer from a client": "Apache takes the frame, its header included, for a path, and finds that bad; ours says that there is no such request",
}


def check(name):
    def add(f):
        CHECKS.append((name, f))
        return f
    return add


class World:
    """An ensemble, with sessions on its leader and on a follower."""

    def __init__(self, e):
        self.e, self.n = e, 0
        self.leader = e.leader().number
        self.follower = next(i for i in e.servers if i != self.leader)
        self.sessions = []

    def on(self, number, **kw):
        s = Session(HOSTS[number], **kw)
        self.sessions.append(s)
        return s

    def root(self):
        self.n += 1
        path = "/b%d" % self.n
        with_session = self.on(self.leader)
        assert with_session.err("create", create(path)) == 0
        return path

    def both(self):
        """A session on the leader, one on a follower, and an empty place in the tree."""
        root = self.root()
        a, b = self.on(self.leader), self.on(self.follower)
        b.ask("sync", s("/"))
        return a, b, root

    def end(self):
        for x in self.sessions:
            x.sock.close()
        self.sessions = []


def stat_of(c, path):
    c.ask("sync", s("/"))
    err, r = c.ask("exists", watched(path))
    return None if err else r.stat()


# ---- sessions ----

@check("1 time-outs are clamped")
def _(w):
    return [w.on(w.follower, timeout=t).timeout for t in (1, 4_000, 5_000, 40_000, 10**6, -1)]


@check("2 a session moves to another server")
def _(w):
    a = w.on(w.follower)
    other = next(i for i in w.e.servers if i not in (w.leader, w.follower))
    a.ask("create", create("/mv%d" % w.n, flags=1))
    # A server that has not seen what the client has refuses it.
    w.on(other).ask("sync", s("/"))
    b = w.on(other, session=a.id, password=a.password, zxid=a.zxid)
    out = [b.id == a.id, b.timeout, b.err("delete", versioned("/mv%d" % w.n))]
    # Requests that the old connection still sends come too late.
    return out + [a.err("create", create("/late"))]


@check("3 a wrong password")
def _(w):
    a = w.on(w.leader)
    b = w.on(w.follower, session=a.id, password=b"\x01" * 16)
    c = w.on(w.leader, session=0x77, password=b"\0" * 16)
    return [b.timeout, b.id, b.password, is_closed(b.sock), c.timeout, c.id, is_closed(c.sock)]


@check("4 a client that has seen more than the server")
def _(w):
    a, b, root = w.both()
    b.ask("sync", s("/"))
    ahead = w.on(w.follower, zxid=b.zxid + 2**20, expect=False)
    same = w.on(w.follower, zxid=a.zxid)
    return [is_closed(ahead.sock), same.id != 0]


@check("6 what an expired session leaves")
def _(w):
    a, b, root = w.both()
    short = w.on(w.follower, timeout=4_000)
    for n in ("x", "y"):
        short.ask("create", create(root + "/" + n, flags=1))
    a.ask("sync", s("/"))
    for n in ("x", "y"):
        a.ask("exists", watched(root + "/" + n, True))
    a.ask("children", watched(root, True))
    events = sorted(a.wait_events(3, 12))
    time.sleep(0.2)
    a.ask("ping", xid=-2)
    return [events == sorted(a.events), [(k, p.rsplit("/", 1)[1]) for k, p in events if k == 2], [k for k, _ in events], stat_of(b, root)["children"]]


@check("7 the end of a session is answered behind what it deletes")
def _(w):
    a, b, root = w.both()
    a.ask("create", create(root + "/e", flags=1))
    return [a.close(), stat_of(b, root + "/e")]


@check("8 pings keep a session")
def _(w):
    # Longer than a machine stalls, shorter than the pings go on.
    c = w.on(w.follower, timeout=8_000)
    for _ in range(10):
        time.sleep(1)
        c.ask("ping", xid=-2)
    return c.err("exists", watched("/"))


@check("9 a second connection of a session replaces the first")
def _(w):
    a = w.on(w.follower)
    b = w.on(w.follower, session=a.id, password=a.password)
    return [is_closed(a.sock), b.err("exists", watched("/"))]


@check("clients of before 3.4 get no read-only byte")
def _(w):
    return [len(w.on(w.leader, read_only=None).answer), len(w.on(w.leader, read_only=False).answer)]


# ---- order ----

@check("10 a read behind a write, in one segment")
def _(w):
    a, b, root = w.both()
    for c in (a, b):
        pair = b""
        for xid, op, body in ((1, "set", setting(root, b"new%d" % c.id)), (2, "get", watched(root))):
            payload = struct.pack(">ii", xid, NAMES[op]) + body
            pair += struct.pack(">i", len(payload)) + payload
        c.sock.sendall(pair)
        c.reply(1)
        assert c.reply(2)[1].buffer() == b"new%d" % c.id
    return "ok"


@check("11 a thousand requests are answered in their order")
def _(w):
    a, b, root = w.both()
    for c in (a, b):
        xids = []
        for i in range(1000):
            op = ("create", "get", "set", "exists", "sync")[i % 5]
            body = {"create": create("%s/%x-%d" % (root, c.id, i)), "get": watched(root), "set": setting(root, b"%d" % i),
                    "exists": watched(root + "/none"), "sync": s("/")}[op]
            xids.append((c.request(op, body), op))
        errs = [c.reply(x)[0] for x, _ in xids]
        assert [e for e, (_, op) in zip(errs, xids) if op != "exists"] == [0] * 800, errs[:20]
    return "ok"


@check("a client that asks faster than it is answered")
def _(w):
    root, count, out = w.root(), 25_000, []
    for n in (w.leader, w.follower):
        # Begun when its turn comes: a session that says nothing meanwhile expires where the other's requests take 10 s.
        c = w.on(n)
        c.ask("sync", s("/"))
        # All of it is on its way before the first answer is read.
        c.say_meanwhile((i + 1, "set", setting(root, b"%d" % i)) for i in range(count))
        out.append([c.reply(i + 1)[0] for i in range(count)].count(0))
    return out


@check("a client that asks for more than it reads")
def _(w):
    a, b, root = w.both()
    big, count, out = b"x" * 100_000, 800, []
    a.ask("set", setting(root, big))
    b.ask("sync", s("/"))
    for c in (a, b):
        c.say_meanwhile((i + 1, "get", watched(root)) for i in range(count))
        time.sleep(1)
        out.append(sum(c.reply(i + 1)[1].buffer() == big for i in range(count)))
    return out


@check("12 an event comes before the reply that shows its change")
def _(w):
    out = []
    for c in w.both()[:2]:
        root = w.root()
        c.ask("sync", s("/"))
        c.ask("add_watch", versioned(root, 1))
        c.ask("get", watched(root, True))
        writer = w.on(w.leader)
        writer.ask("set", setting(root, b"1"))
        c.ask("sync", s("/"))
        data = c.ask("get", watched(root))[1].buffer()
        out.append([data, list(c.events)[:1] == [(3, root)]])
    return out


@check("13 a request that fails takes a zxid")
def _(w):
    a, b, root = w.both()
    a.ask("create", create(root + "/a"))
    a.ask("create", create(root + "/a"))
    b.ask("create", create(root + "/none/a"))
    a.ask("create", create(root + "/b"))
    return stat_of(a, root + "/b")["czxid"] - stat_of(a, root + "/a")["czxid"]


@check("14 a read is not held up by another session's writes")
def _(w):
    a, b, root = w.both()
    # A server that holds reads up does so each time; a machine that stalls for a moment does not.
    for _ in range(5):
        for i in range(3000):
            a.request("set", setting(root, b"x" * 1000))
        begun = time.time()
        b.ask("get", watched(root))
        waited = time.time() - begun
        for _ in range(3000):
            a.frame()
        if waited < (time.time() - begun) / 2:
            return True
    return False


@check("15 sync on a follower shows what was committed before")
def _(w):
    a, b, root = w.both()
    for i in range(50):
        a.ask("set", setting(root, b"%d" % i))
        b.ask("sync", s("/"))
        assert b.ask("get", watched(root))[1].buffer() == b"%d" % i
    return "ok"


# ---- nodes ----

@check("16 sequential names")
def _(w):
    a, b, root = w.both()
    seq = lambda c, n="s-": c.ask("create", create(root + "/" + n, flags=2))[1].text()[len(root):]
    out = [seq(a), seq(b)]
    a.ask("delete", versioned(root + out[0]))
    a.ask("create", create(root + "/plain"))
    out += [seq(a), a.ask("create", create(root + "/e-", flags=3))[1].text()[len(root):], seq(b, "")]
    return out


@check("17 what a change does to a node's and its parent's stat")
def _(w):
    a, b, root = w.both()
    out, base = [], stat_of(a, root)["czxid"]

    def note():
        st = stat_of(a, root)
        out.append([st["version"], st["cversion"], st["aversion"], st["children"], st["length"], st["pzxid"] - base, st["mzxid"] - base])
    note()
    for op, body in (("create", create(root + "/c")), ("create2", create(root + "/d")), ("delete", versioned(root + "/d")),
                     ("set", setting(root + "/c", b"x")), ("set", setting(root, b"xyz")), ("set_acl", s(root) + acls(OPEN) + struct.pack(">i", -1))):
        assert a.err(op, body) == 0
        note()
    return out


@check("18 containers go when they are empty")
def _(w):
    a, b, root = w.both()
    for name in ("used", "unused"):
        assert a.err("container", create(root + "/" + name, flags=4)) == 0
    a.ask("create", create(root + "/used/c"))
    owner = stat_of(a, root + "/used")["owner"]
    a.ask("delete", versioned(root + "/used/c"))
    end = time.time() + 10
    while stat_of(b, root + "/used") and time.time() < end:
        time.sleep(0.1)
    return [owner, stat_of(b, root + "/used"), stat_of(b, root + "/unused") is not None]


@check("19 nodes with a time to live")
def _(w):
    a, b, root = w.both()
    out = [a.err("ttl", ttl(root + "/t%d" % i, ms)) for i, ms in enumerate((0, -1, 1, 2**40 - 1, 2**40, 2**62))]
    out.append(a.err("ttl", ttl(root + "/plain", 5, flags=0)))
    out.append(a.ask("ttl", ttl(root + "/seq-", 600, flags=6))[1].text()[len(root):])
    a.ask("create", create(root + "/t3/child"))
    end = time.time() + 10
    while (stat_of(b, root + "/t2") or stat_of(b, root + "/seq-%010d" % 3)) and time.time() < end:
        time.sleep(0.1)
    return out + [stat_of(b, root + "/t2"), stat_of(b, root + "/t3")["owner"], stat_of(b, root + "/t3")["children"]]


@check("20 children of ephemeral nodes and of containers")
def _(w):
    a, b, root = w.both()
    a.ask("create", create(root + "/e", flags=1))
    a.ask("container", create(root + "/c", flags=4))
    a.ask("ttl", ttl(root + "/t", 10**6))
    return [a.err("create", create(root + x)) for x in ("/e/x", "/c/x", "/t/x", "/none/x")]


@check("21 deletes that are refused")
def _(w):
    a, b, root = w.both()
    a.ask("create", create(root + "/d"))
    a.ask("create", create(root + "/d/c"))
    out = [a.err("delete", versioned(p, v)) for p, v in ((root + "/d", 7), (root + "/d", -1), (root + "/none", -1), ("/", -1), ("/zookeeper", -1),
           ("/zookeeper/quota", -1), ("/zookeeper/config", -1), ("rel", -1), (root + "/d/c", 0))]
    return out


@check("23 no data and empty data")
def _(w):
    a, b, root = w.both()
    for name, data in (("null", None), ("empty", b"")):
        a.ask("create", create(root + "/" + name, data))
    a.ask("create", create(root + "/set", b"x"))
    a.ask("set", setting(root + "/set", None))
    b.ask("sync", s("/"))
    return [c.ask("get", watched(root + n))[1].buffer() for c in (a, b) for n in ("/null", "/empty", "/set")]


@check("24 paths")
def _(w):
    a, b, root = w.both()
    bad = ["", "x", "/x/", "//x", "/x//y", "/./x", "/x/..", "/../x", "/x\0", "/x\x01", "/x\x1f", "/x\x7f", "/x\x9f", "/x\ue000", "/x\uf8ff",
           "/x\ufff0", "/x\uffff", "/...", "/x y", "/é", "/数据", "/x\u00a0", "/a/b/c"]
    # Apache's answer to a path without a slash in create and elsewhere.
    out = [(p.encode("unicode_escape").decode(), a.err("create", create(root + p if p.startswith("/") else p))) for p in bad]
    for p in bad[:8]:
        c = w.on(w.follower)
        out.append([c.err(op, body) for op, body in (("set", setting(p, b"")), ("exists", watched(p)), ("get", watched(p)), ("children", watched(p)),
                                                     ("set_acl", s(p) + acls(OPEN) + struct.pack(">i", -1)), ("get_acl", s(p)))])
    return out


@check("deleteContainer from a client")
def _(w):
    a, b, root = w.both()
    a.ask("container", create(root + "/c", flags=4))
    return [w.on(w.leader).err("delete_container", (root + "/c").encode()), stat_of(b, root + "/c") is not None]


@check("the flags of create")
def _(w):
    a, b, root = w.both()
    return [(f, a.err("create", create(root + "/f%d" % f, flags=f))) for f in (0, 1, 2, 3, 4, 5, 6, 7, -1, 99)]


@check("getEphemerals and getAllChildrenNumber")
def _(w):
    a, b, root = w.both()
    for p in ("/e1", "/e2", "/other"):
        a.ask("create", create(root + p, flags=1))
    a.ask("create", create(root + "/p"))
    a.ask("create", create(root + "/p/q"))
    listed = lambda prefix: sorted(x[len(root):] for x in (lambda r: [r.text() for _ in range(r.get("i"))])(a.ask("ephemerals", s(prefix))[1]))
    return [listed(root + "/e"), listed("/"), listed(""), [a.ask("all_children", s(root + p))[1].get("i") for p in ("", "/p")], a.err("all_children", s(root + "/none"))]


# ---- multi ----

@check("25 a multi that fails leaves no trace")
def _(w):
    a, b, root = w.both()
    first = a.ask("create", create(root + "/s-", flags=2))[1].text()[len(root):]
    failed = multi_results(a.ask("multi", multi(("create", create(root + "/s-", flags=2)), ("create", create(root + "/x")), ("delete", versioned(root + "/none"))))[1])
    return [first, failed, a.ask("create", create(root + "/s-", flags=2))[1].text()[len(root):], stat_of(b, root + "/x"), stat_of(b, root)["cversion"]]


@check("26 the parts of a multi's answer")
def _(w):
    a, b, root = w.both()
    out = []
    for c, base in ((a, root + "/l"), (b, root + "/f")):
        c.ask("create", create(base))
        ops = (("create", create(base + "/1")), ("create2", create(base + "/2")), ("ttl", ttl(base + "/3", 10**6)), ("container", create(base + "/4", flags=4)),
               ("set", setting(base + "/1", b"x")), ("check", versioned(base + "/1", 1)), ("delete", versioned(base + "/2")), ("create", create(base + "/s-", flags=3)))
        err, r = c.ask("multi", multi(*ops))
        out.append([err] + [tuple(x.replace(base, "") if isinstance(x, str) else x for x in part) for part in multi_results(r)])
        err, r = c.ask("multi", multi(("check", versioned(base, 9)), ("create", create(base + "/5"))))
        out.append([err] + multi_results(r))
    return out


@check("27 multis of odd parts")
def _(w):
    a, b, root = w.both()
    before = stat_of(a, root)
    out = [w.on(w.leader).err("multi", multi((77, s("/")))), w.on(w.leader).err("multi", multi(("get", watched("/"))))]
    out.append(w.on(w.follower).err("multi", multi(("create", create(root + "/m")), ("get", watched("/")))))
    err, r = a.ask("multi", multi())
    out += [err, multi_results(r)]
    a.ask("create", create(root + "/m1"))
    a.ask("multi", multi())
    a.ask("create", create(root + "/m2"))
    return out + [stat_of(a, root + "/m2")["czxid"] - stat_of(a, root + "/m1")["czxid"], stat_of(a, root + "/m")]


@check("28 multiRead with a node that is missing")
def _(w):
    a, b, root = w.both()
    a.ask("create", create(root + "/a", b"x"))
    b.ask("sync", s("/"))
    err, r = b.ask("multi_read", multi(("get", watched(root + "/a")), ("get", watched(root + "/none")), ("children", watched(root))))
    return [err, multi_results(r), w.on(w.leader).err("multi_read", multi(("create", create(root + "/no"))))]


# ---- watches ----

@check("29 watches on a node that is not there")
def _(w):
    a, b, root = w.both()
    out = [b.err("exists", watched(root + "/x", True)), b.err("get", watched(root + "/y", True)), b.err("children", watched(root + "/z", True))]
    for n in "xyz":
        a.ask("create", create(root + "/" + n))
    b.ask("sync", s("/"))
    return out + [[(k, p[len(root):]) for k, p in b.wait_events(1, 1)]]


@check("30 a delete that is watched twice is told once")
def _(w):
    a, b, root = w.both()
    a.ask("create", create(root + "/x"))
    b.ask("sync", s("/"))
    b.ask("get", watched(root + "/x", True))
    b.ask("children", watched(root + "/x", True))
    a.ask("delete", versioned(root + "/x"))
    b.ask("sync", s("/"))
    time.sleep(0.1)
    return [(k, p[len(root):]) for k, p in b.wait_events(1)]


@check("31 watches of before a reconnection")
def _(w):
    a, b, root = w.both()
    for n in ("same", "changed", "deleted", "parent"):
        a.ask("create", create(root + "/" + n))
    b.ask("sync", s("/"))
    seen = b.zxid
    a.ask("set", setting(root + "/changed", b"x"))
    a.ask("delete", versioned(root + "/deleted"))
    a.ask("create", create(root + "/created"))
    a.ask("create", create(root + "/parent/c"))
    out = []
    for op in ("set_watches", "set_watches2"):
        c = w.on(w.follower)
        c.ask("sync", s("/"))
        paths = lambda *names: vec([s(root + "/" + n) for n in names])
        body = struct.pack(">q", seen) + paths("same", "changed", "deleted") + paths("created", "absent-" + op) + paths("same", "parent", "deleted")
        if op == "set_watches2":
            body += paths("p-" + op) + paths("r-" + op)
        err, r = c.ask(op, body, -8)
        told = sorted((k, p[len(root):]) for k, p in c.events)
        c.events = []
        for p in ("/absent-" + op, "/p-" + op, "/r-" + op, "/r-" + op + "/below"):
            a.ask("create", create(root + p))
        a.ask("set", setting(root + "/same", b"1"))
        c.ask("sync", s("/"))
        time.sleep(0.1)
        later = sorted((k, p[len(root):]) for k, p in c.wait_events(2, 1))
        out.append([err, len(r.rest()), told, later])
    return out


@check("32 a persistent watch and a one-shot one")
def _(w):
    a, b, root = w.both()
    b.ask("add_watch", versioned(root, 0))
    b.ask("get", watched(root, True))
    for i in range(2):
        a.ask("set", setting(root, b"%d" % i))
    a.ask("create", create(root + "/c"))
    b.ask("sync", s("/"))
    time.sleep(0.1)
    return [k for k, _ in b.wait_events(3)]


@check("33 recursive watches tell the real path")
def _(w):
    a, b, root = w.both()
    b.ask("add_watch", versioned(root, 1))
    b.ask("add_watch", versioned(root + "/x", 1))
    for op, body in (("create", create(root + "/x")), ("create", create(root + "/x/y")), ("set", setting(root + "/x/y", b"1")), ("set", setting(root, b"1")),
                     ("delete", versioned(root + "/x/y"))):
        a.ask(op, body)
    b.ask("sync", s("/"))
    time.sleep(0.1)
    return [(k, p[len(root):]) for k, p in b.wait_events(5)] + [b.err("add_watch", versioned(root, 7))]


@check("34 watches that are taken away")
def _(w):
    a, b, root = w.both()
    out = []
    for mode in (1, 2, 3):
        b.ask("get", watched(root, True))
        b.ask("children", watched(root, True))
        b.ask("add_watch", versioned(root, 0))
        out.append([b.err("check_watches", versioned(root, m)) for m in (1, 2, 3)])
        out.append([b.err("remove_watches", versioned(root, mode)), b.err("remove_watches", versioned(root, mode))])
        out.append([b.err("check_watches", versioned(root, m)) for m in (1, 2, 3)])
        b.ask("remove_watches", versioned(root, 3))
    return out + [b.err("remove_watches", versioned(root + "/none", 3))]


@check("35 events of nodes that may not be read")
def _(w):
    a, b, root = w.both()
    a.auth("digest", b"u:p")
    a.ask("create", create(root + "/secret", b"", [(31, "auth", "")]))
    b.ask("sync", s("/"))
    b.ask("add_watch", versioned(root, 1))
    a.ask("set", setting(root + "/secret", b"x"))
    a.ask("create", create(root + "/open"))
    b.ask("sync", s("/"))
    time.sleep(0.1)
    return [(k, p[len(root):]) for k, p in b.wait_events(1)]


# ---- access ----

DIGEST = "u:" + __import__("base64").b64encode(hashlib.sha1(b"u:p").digest()).decode()


@check("36 who may do what")
def _(w):
    a, b, root = w.both()
    owner, other, boss = w.on(w.follower), w.on(w.leader), w.on(w.follower)
    out = [owner.auth("digest", b"u:p"), other.auth("digest", b"v:q"), boss.auth("digest", b"super:test")]
    lists = {"mine": [(31, "digest", DIGEST)], "auth": [(31, "auth", "")], "ip": [(31, "ip", "127.0.0.0/8")], "elsewhere": [(31, "ip", "10.1.2.3")],
             "look": [(1, "world", "anyone"), (31, "digest", DIGEST)], "admin": [(16, "world", "anyone"), (3, "digest", DIGEST)]}
    for name, acl in lists.items():
        out.append(owner.err("create", create(root + "/" + name, b"d", acl)))
    for c in (a, owner, other, boss):
        c.ask("sync", s("/"))
        for name in lists:
            p = root + "/" + name
            out.append([name] + [c.err(op, body) for op, body in (("get", watched(p)), ("set", setting(p, b"e")), ("create", create(p + "/c")), ("get_acl", s(p)),
                                                                ("children", watched(p)), ("delete", versioned(p + "/c")))])
    return out


@check("36 hashes are hidden from who may not administrate")
def _(w):
    a, b, root = w.both()
    owner = w.on(w.follower)
    owner.auth("digest", b"u:p")
    owner.ask("create", create(root + "/n", b"", [(1, "world", "anyone"), (31, "digest", DIGEST)]))
    out = []
    for c in (a, owner):
        c.ask("sync", s("/"))
        r = c.ask("get_acl", s(root + "/n"))[1]
        out.append([(r.get("i"), r.text(), r.text()) for _ in range(r.get("i"))])
    return out


@check("37 lists that are refused")
def _(w):
    a, b, root = w.both()
    lists = [[], [(31, "nothing", "x")], [(31, "world", "somebody")], [(31, "digest", "nocolon")], [(31, "digest", "a:b:c")], [(31, "ip", "300.1.1.1")],
             [(31, "ip", "10.0.0.0/33")], [(31, "auth", "")], [(31, "", "")], [(0, "world", "anyone")], [(255, "world", "anyone")], [(31, "ip", "10.0.0.1")] * 3]
    out = [a.err("create", create(root + "/l%d" % i, b"", acl)) for i, acl in enumerate(lists)]
    a.ask("create", create(root + "/twice", b"", OPEN * 3))
    r = a.ask("get_acl", s(root + "/twice"))[1]
    return out + [a.err("get_acl", s(root + "/l11")), r.get("i"), a.err("set_acl", s(root) + acls([]) + struct.pack(">i", -1)), a.err("set_acl", s(root) + acls(OPEN) + struct.pack(">i", 5))]


@check("an unknown scheme of authentication")
def _(w):
    c = w.on(w.follower)
    return [c.auth("nothing", b"x"), is_closed(c.sock)]


@check("whoAmI")
def _(w):
    c = w.on(w.follower)
    c.auth("digest", b"u:p")
    err, r = c.ask("whoami")
    return [err, sorted((r.text(), r.text()) for _ in range(r.get("i")))]


# ---- limits and odd requests ----

@check("40 the longest request")
def _(w):
    a, b, root = w.both()
    out = []
    for over in (0, 1, 2**20):
        c = w.on(w.follower)
        head = len(struct.pack(">ii", 0, 0) + setting(root, b""))
        out.append(c.err("set", setting(root, b"x" * (0xfffff - head + over))))
    return out


@check("42 four-letter words")
def _(w):
    server = w.e.servers[w.follower]
    out = [server.word(x) for x in ("ruok", "isro")]
    out.append(sorted(l.split(":")[0] for l in server.word("srvr").splitlines()))
    keys = {l.split("\t")[0] for l in server.word("mntr").splitlines()}
    wanted = set("""zk_version zk_server_state zk_avg_latency zk_max_latency zk_min_latency zk_packets_received zk_packets_sent zk_num_alive_connections
        zk_outstanding_requests zk_znode_count zk_watch_count zk_ephemerals_count zk_approximate_data_size zk_open_file_descriptor_count
        zk_max_file_descriptor_count zk_global_sessions zk_local_sessions zk_uptime zk_quorum_size zk_last_client_response_size
        zk_max_client_response_size zk_min_client_response_size zk_connection_drop_probability zk_commit_count zk_looking_count zk_peer_state""".split())
    out.append(sorted(wanted - keys))
    leader = w.e.servers[w.leader]
    keys = {l.split("\t")[0] for l in leader.word("mntr").splitlines()}
    out.append(sorted(set("zk_learners zk_synced_followers zk_synced_observers zk_pending_syncs zk_leader_uptime zk_last_proposal_size".split()) - keys))
    out.append([l.split("=")[0] for l in server.word("conf").splitlines()])
    out.append([l.split(":")[0] for l in server.word("dirs").splitlines()])
    out.append([l.split("(")[0].rstrip(":") for l in server.word("dump").splitlines() if not l.startswith(("0x", "\t"))][:3])
    out.append([l.split(":")[0] for l in leader.word("srvr").splitlines()][-1])
    return out


@check("42 a word inside of a session is a request")
def _(w):
    c = w.on(w.follower)
    c.sock.sendall(b"ruok")
    return is_closed(c.sock, 2)


@check("43 quotas")
def _(w):
    a, b, root = w.both()
    q = "/zookeeper/quota" + root
    out = [a.err("create", create(q))]
    out.append(a.err("create", create(q + "/zookeeper_limits", b"count=-1,bytes=-1=;byteHardLimit=10;countHardLimit=3")))
    out.append(a.err("create", create(q + "/zookeeper_stats", b"count=0,bytes=0")))
    stats = lambda c: (c.ask("sync", s("/")), c.ask("get", watched(q + "/zookeeper_stats"))[1].buffer())[1]
    out.append(stats(b))
    for name, data in (("/a", b"1234"), ("/b", b"5678"), ("/c", b""), ("/d", b"")):
        out.append(a.err("create", create(root + name, data)))
        out.append(stats(b))
    out.append(a.err("set", setting(root + "/a", b"1234567890")))
    out.append(a.err("set", setting(root + "/a", b"12")))
    out.append(stats(a))
    out.append(a.err("delete", versioned(root + "/b")))
    out += [stats(a), stats(b), stat_of(a, q + "/zookeeper_stats")["version"]]
    a.ask("delete", versioned(q + "/zookeeper_limits"))
    return out + [a.err("create", create(root + "/e", b"x" * 100))]


@check("requests of unknown types")
def _(w):
    return [(t, w.on(n).err(t)) for n in (w.leader, w.follower) for t in (0, 10, 23, 99, 200, -1, -2)]


@check("reconfig is disabled unless it is enabled")
def _(w):
    body = s("") + s("2") + s("") + struct.pack(">q", -1)
    return [w.on(n).err("reconfig", body) for n in (w.leader, w.follower)]


@check("the members can be read")
def _(w):
    c = w.on(w.follower)
    r = c.ask("get", watched("/zookeeper/config"))[1]
    lines = sorted((r.buffer() or b"").decode().splitlines())
    r = c.ask("get_acl", s("/zookeeper/config"))[1]
    return [lines, [(r.get("i"), r.text(), r.text()) for _ in range(r.get("i"))], r.stat()["aversion"], c.err("set", setting("/zookeeper/config", b"x"))]


@check("exists asks for READ")
def _(w):
    a, b, root = w.both()
    a.ask("create", create(root + "/hidden", b"", [(2, "world", "anyone")]))
    return a.err("exists", watched(root + "/hidden"))


@check("check alone")
def _(w):
    return w.on(w.leader).err("check", versioned("/", 99))


@check("12 the zxid of an event")
def _(w):
    a, b, root = w.both()
    a.ask("get", watched(root, True))
    a.request("set", setting(root, b"x"))
    r = Reader(a.frame())
    xid, zxid, _ = r.get("iqi")
    return [xid, zxid > 0]


@check("5 a session outlives its leader")
def _(w):
    a, b, root = w.both()
    c = w.on(w.follower, timeout=20_000)
    c.ask("create", create(root + "/e", flags=1))
    w.e.servers[w.leader].kill()
    w.e.leader()
    w.e.servers[w.leader].start()
    w.e.wait_all()
    d = w.on(w.follower, session=c.id, password=c.password, zxid=c.zxid, timeout=20_000)
    out = [d.id == c.id, stat_of(d, root + "/e")["owner"] == c.id]
    w.leader = w.e.leader().number
    w.follower = next(i for i in w.e.servers if i != w.leader)
    return out


@check("requests that are cut off")
def _(w):
    out = []
    for op in ("create", "set", "get", "exists", "multi", "children", "set_acl", "add_watch", "check_watches", "delete", "sync", "get_acl", "create2"):
        for n in (w.leader, w.follower):
            out.append((op, w.on(n).err(op, b"\0\0\0\x09/x")))
    return out


def run(kind, only):
    out = {}
    left = [(name, f) for name, f in CHECKS if not only or any(o in name for o in only)]
    while left:
        e = Ensemble({i: kind for i in (1, 2, 3)}, settings=SETTINGS, properties=PROPERTIES)
        with e:
            e.wait_all()
            w = World(e)
            while left:
                name, f = left.pop(0)
                try:
                    out[name] = repr(f(w))
                except Exception as ex:
                    # The cause of its failure may have broken the ensemble, too: the others get a new one.
                    out[name] = "FAILED %s: %s" % (type(ex).__name__, ex)
                    break
                finally:
                    w.end()
    return out


def both(only):
    """The answers of ours and of Apache's, side by side, each on addresses of its own."""
    started = [subprocess.Popen([sys.executable, __file__, "--one", kind, *only], stdout=subprocess.PIPE, text=True, env=dict(os.environ, TRIVET_LAB_BASE=base))
               for kind, base in (("trivet", "127.0.0.7"), ("apache", "127.0.1.7"))]
    return [json.loads(p.communicate()[0].strip().splitlines()[-1].replace("127.0.1.7", "127.0.0.7")) for p in started]


def main():
    ap = argparse.ArgumentParser(description=__doc__)
    ap.add_argument("only", nargs="*", help="parts of names of checks")
    ap.add_argument("--one", choices=["trivet", "apache"], help="only this kind; prints JSON")
    a = ap.parse_args()
    if a.one:
        print(json.dumps(run(a.one, a.only)))
        return 0
    ours, theirs = both(a.only)

    def reason_of(name):
        reason = NEWER.get(name) or DIFFERENT.get(name)
        if os.environ.get("APACHE_CLASSPATH") and theirs[name].startswith("FAILED"):
            reason = reason or BREAKS.get(name)
        return reason

    # A reference that stalled is asked again, and is taken at its second word; ours has to say the same both times.
    doubtful = [n for n in ours if ours[n] != theirs[n] and not ours[n].startswith("FAILED") and not reason_of(n)]
    if doubtful:
        first = {n: theirs[n] for n in doubtful}
        again, theirs_again = both(doubtful)
        for name in doubtful:
            print("asked again: %s\n    ours   %s, then %s\n    Apache %s, then %s"
                  % (name, ours[name][:500], again[name][:500], first[name][:500], theirs_again[name][:500]))
            if again[name] == ours[name]:
                theirs[name] = theirs_again[name]
    wrong = same_count = 0
    for name in ours:
        # A case that fails on both sides alike shows nothing.
        same = ours[name] == theirs[name] and not ours[name].startswith("FAILED")
        same_count += same
        reason = reason_of(name)
        print("%s  %s" % ("same     " if same else "differs  ", name) + ("" if same else ": " + (reason or "NO REASON")))
        if not same:
            print("    ours   %s\n    Apache %s" % (ours[name][:1500], theirs[name][:1500]))
            wrong += reason is None or ours[name].startswith("FAILED")
    print("%d checks, %d the same, %d differ without a reason" % (len(ours), same_count, wrong))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
