#!/usr/bin/env python3
"""The console of a cluster, as operators and their programs meet it: pages in both languages, who may see and change
what, metrics, alerts and one incident while nodes die, messages, reports, and a page while no quorum stands."""
import http.server, json, os, re, signal, struct, subprocess, sys, tempfile, threading, time, urllib.error, urllib.parse, urllib.request

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from cluster import ADDRESS, Cluster, TRIVET
from nfs_client import NFS, Client, opaque

PAGES = ["/", "/incidents", "/alerts", "/network", "/nodes", "/datastores", "/activity", "/settings"]
BASE = "http://127.0.0.1:8088"
# A busy machine is not what is tested.
SLOW = 3.0


class Plain(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_):
        return None


OPENER = urllib.request.build_opener(Plain)


def ask(path, base=BASE, data=None, context=None, **headers):
    """(status, headers, body); `context`: what certificates are trusted"""
    r = urllib.request.Request(base + path, data=data.encode() if data is not None else None,
                               headers={k.replace("_", "-"): v for k, v in headers.items()})
    opener = urllib.request.build_opener(Plain, urllib.request.HTTPSHandler(context=context)) if context else OPENER
    try:
        with opener.open(r, timeout=20) as a:
            return a.status, a.headers, a.read().decode()
    except urllib.error.HTTPError as e:
        return e.code, e.headers, e.read().decode()


def trivet(c, *args, **more):
    return subprocess.run([TRIVET, *args, "--data", c.data], capture_output=True, text=True, env={**os.environ, "LC_ALL": "C"}, **more)


def until(what, test, seconds=60):
    end = time.time() + seconds
    while time.time() < end:
        found = test()
        if found:
            return found
        time.sleep(0.5)
    raise AssertionError("not within %d s: %s" % (seconds, what))


def pages(c):
    for language, word in (("en", "Overview"), ("zh-CN", "概览")):
        for p in PAGES:
            status, headers, body = ask(p, Accept_Language=language)
            assert status == 200 and word in body and 'lang="%s"' % language in body, (p, language, status)
            assert "default-src 'none'" in headers["content-security-policy"], headers
            assert "style=" not in body and "<script>" not in body, "%s: inline style or script, which the policy forbids" % p
    assert ask("/no-such-page")[0] == 404
    print("8 pages in both languages, with their headers")


def gate(c):
    assert ask("/", Host="evil.example")[0] == 421
    assert ask("/silences", data="rule=NODE_DOWN&hours=1&comment=x")[0] == 403, "a viewer silenced an alert"
    assert ask("/accounts", data="name=x&password=long-enough-1&role=administrator")[0] == 403
    assert ask("/silences", data="x=1", Sec_Fetch_Site="cross-site")[0] == 403
    link = trivet(c, "account", "link").stdout.strip()
    base, code = link.split("/login?code=")
    status, headers, _ = ask("/login?code=" + code, base=base)
    session = headers["set-cookie"].split(";")[0]
    assert status == 303 and "HttpOnly" in headers["set-cookie"], (status, headers)
    assert "set-cookie" not in ask("/login?code=" + code, base=base)[1], "a link signed in twice"
    form = "rule=NODE_DOWN&node=2&hours=0.5&comment=a+test"
    assert ask("/silences", data=form, Cookie=session)[0] == 403, "a form without its code was taken"
    csrf = re.search('name="csrf" value="([^"]+)"', ask("/alerts", Cookie=session)[2]).group(1)
    assert ask("/silences", data=form + "&csrf=" + csrf, Cookie=session)[0] == 303
    listed = trivet(c, "silence", "list").stdout
    assert "NODE_DOWN" in listed and "a test" in listed, listed
    assert trivet(c, "silence", "end", listed.split()[0]).returncode == 0
    assert trivet(c, "silence", "add", "--node", "2", "--hours", "1", "--comment", "").returncode != 0
    made = trivet(c, "account", "set", "ann", "--role", "operator", input="a long password\n")
    assert made.returncode == 0, made.stderr
    assert ask("/login", data="name=ann&password=wrong")[0] == 403
    assert ask("/login", data="name=ann&password=a+long+password")[0] == 303
    print("who may see and change what")
    snapshots(session, csrf)


def snapshots(session, csrf):
    """Snapshots, clones and restored files by the forms of the datastores' page."""
    n = Client(ADDRESS)
    disk = n.create(b"disk")
    n.write(disk, [(0, b"first")])

    def order(path, **values):
        status, headers, body = ask("/datastores/" + path, data=urllib.parse.urlencode(dict(values, datastore="ds1", csrf=csrf)), Cookie=session)
        assert status == 303 and headers["location"] == "/datastores?path=/ds1", (path, status, body)

    def content(name):
        answer = n.ask(NFS, 3, opaque(n.root) + opaque(name))
        assert answer[:4] == b"\0" * 4, name
        return n.read(answer[8:8 + struct.unpack(">I", answer[4:8])[0]], 0, 5)

    assert ask("/datastores/snapshot", data="datastore=ds1&name=x")[0] == 403, "a viewer took a snapshot"
    order("snapshot", name="monday")
    for language, word in (("en", "Take a snapshot"), ("zh-CN", "创建快照")):
        shown = lambda: ask("/datastores?path=/ds1", Cookie=session, Accept_Language=language)[2]
        until("the snapshot and the form are shown", lambda: word in shown() and "monday" in shown(), 10)
    assert "monday" in ask("/datastores?path=/ds1")[2] and "Take a snapshot" not in ask("/datastores?path=/ds1")[2]
    n.write(disk, [(0, b"later")])
    order("clone", **{"from": "disk", "to": "copy"})
    order("restore", name="monday", **{"from": "disk"})
    assert (content(b"disk"), content(b"copy")) == (b"first", b"later")
    status, _, body = ask("/datastores/clone", data=urllib.parse.urlencode({"datastore": "ds1", "csrf": csrf, "from": "none", "to": "x"}), Cookie=session)
    assert status == 422 and "none" in body, (status, body)
    order("snapshot/delete", name="monday")
    # This node's metad may hear of it a moment later.
    until("the snapshot is not shown any more", lambda: "monday" not in ask("/datastores?path=/ds1")[2], 10)
    audit = ask("/api/v1/audit", Cookie=session)[2]
    assert "snapshot monday of ds1" in audit and "restore disk of ds1 from snapshot monday" in audit, audit
    print("snapshots, clones and restored files by forms")


def metrics(c):
    text = "".join(ask("/metrics", base="http://127.0.0.%d:8088" % (70 + n))[2] for n in (1,))
    assert "# TYPE trivet_coordination_elections_total counter" in text
    out = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, text=True)
    ours = [l for l in (out.stdout + out.stderr).splitlines() if l.startswith("trivet_") and not re.match("trivet_(refused|commits_early|digests_(compared|proposed|left_out)) ", l)]
    assert not ours, ours
    assert not [l for l in (out.stdout + out.stderr).splitlines() if "help" in l], out.stderr
    print("metrics: promtool has nothing to say of our names, and misses no help")


def incidents(c):
    """The alerts that this machine's own full disk did not cause."""
    listed = json.loads(trivet(c, "incident", "list", "--json").stdout)["incidents"]
    return [i for i in listed if not all(m["rule"].startswith("DISK_") for m in i["members"].values())]


class Receiver(http.server.BaseHTTPRequestHandler):
    got = []

    def do_POST(self):
        said = json.loads(self.rfile.read(int(self.headers["content-length"])))
        # The disk of the machine that tests is not what is tested.
        if not all(a["labels"]["alertname"].startswith("DISK_") for a in said["alerts"]):
            Receiver.got.append(said)
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_):
        pass


def main():
    receiver = http.server.HTTPServer(("127.0.0.1", 0), Receiver)
    threading.Thread(target=receiver.serve_forever, daemon=True).start()
    with Cluster("--restart", "never") as c:
        nodes = c.wait("all nodes", lambda n: n if c.all_ready(n) else None)
        for n in (1, 2, 3):
            with open(os.path.join(c.data, "node%d" % n, "notifications.toml"), "w") as f:
                f.write('[[target]]\nname = "lab"\nkind = "webhook"\nurl = "http://127.0.0.1:%d/"\nlanguage = "zh"\n' % receiver.server_port)
        # Nothing is wrong but, maybe, the disk of the machine that tests.
        until("OK", lambda: all(k["id"].startswith("DISK_") for k in json.loads(trivet(c, "status", "--json").stdout)["health"]["checks"]))
        pages(c)
        gate(c)
        metrics(c)
        time.sleep(10)  # the targets are read
        assert not Receiver.got, Receiver.got
        lead = c.leaders()[1]
        down = next(n for n in (3, 2, 1) if n != lead)
        c.kill(down)
        r = until("degraded", lambda: (lambda r: r if r.returncode == 1 and "NODE_DOWN" in r.stdout else None)(trivet(c, "status")), 20)
        assert r.stdout.startswith("degraded: ") and "node %d does not answer" % down in r.stdout, r.stdout
        alerts = until("NODE_DOWN", lambda: [a for a in json.loads(trivet(c, "alerts", "--active", "--json").stdout)["alerts"] if a["rule"] == "NODE_DOWN"], 40)
        assert len(alerts) == 1 and len(alerts[0]["seen_by"]) == 2, alerts
        # Nodes need not see the same alert first: until each has seen the node gone, their incidents may have other titles.
        listed = until("the incident with its cause", lambda: (lambda l: l if any(i["likely"]["best"] and i["likely"]["best"]["cause"] == {"down": down} for i in l) else None)(incidents(c)))
        assert len(listed) == 1, [i["headline"] for i in listed]
        assert listed[0]["likely"]["best"]["cause"] == {"down": down}, listed[0]["likely"]
        for form, word in (("md", "# "), ("html", "<!doctype html>"), ("json", "{")):
            out = trivet(c, "incident", "export", listed[0]["id"], "--format", form, "--lang", "zh").stdout
            assert out.startswith(word) and "宕机" in out, (form, out[:200])
        assert trivet(c, "alerts", "--csv", "--lang", "zh").stdout.startswith("\ufeff\"告警\"")
        m = until("a message", lambda: Receiver.got, 30)[0]
        assert m["version"] == "4" and m["alerts"][0]["labels"]["alertname"] and "宕机" in m["commonAnnotations"]["summary"], m
        print("node %d killed: one incident, its cause, %d message" % (down, len(Receiver.got)))
        alive = [n for n in (1, 2, 3) if n != down]
        if subprocess.run(["sh", "-c", "command -v amtool"], capture_output=True).returncode == 0:
            out = subprocess.run(["amtool", "--alertmanager.url", "http://127.0.0.%d:8088" % (70 + alive[0]), "alert", "query"], capture_output=True, text=True)
            assert "NODE_DOWN" in out.stdout, out.stdout + out.stderr
        c.kill(alive[1])
        r = until("unavailable", lambda: (lambda r: r if r.returncode == 2 else None)(trivet(c, "status")), 30)
        assert r.stdout.startswith("unavailable: "), r.stdout
        base = "http://127.0.0.%d:8088" % (70 + alive[0])
        took = []
        for p in PAGES:
            begun = time.time()
            status, _, body = ask(p, base=base)
            took.append(time.time() - begun)
            assert status == 200, (p, status)
        assert max(took) < SLOW, took
        until("the page tells the truth", lambda: "no leader serves with a quorum" in ask("/", base=base)[2], 30)
        assert ask("/readyz", base=base)[0] == 503
        print("no quorum: the last node's pages answer within %.2f s and say so" % max(took))
        bundle = os.path.join(c.folder, "bundle.tar.gz")
        out = trivet(c, "bundle", "--output", bundle)
        assert out.returncode == 0, out.stderr
        names = subprocess.run(["tar", "tzf", bundle], capture_output=True, text=True).stdout
        assert "incidents/" in names and "node.log" in names and "cluster.key" not in names, names
        key = open(os.path.join(c.data, "cluster.key")).read().strip()
        text = subprocess.run("tar xzOf %s" % bundle, shell=True, capture_output=True).stdout
        assert key.encode() not in text, "the bundle has the cluster's key in it"
        print("bundle: %d files, without the key" % len(names.splitlines()))
        assert len(Receiver.got) <= 4, [g["commonAnnotations"] for g in Receiver.got]


if __name__ == "__main__":
    main()
