#!/usr/bin/env python3
"""The vCenter agent against Debian's vcsim behind vcenter_shim.py, with pyVmomi as the reader that nobody here wrote.

The case of 29 January: a host loses one of two NFS datastores, vSphere HA has one heartbeat datastore of two required, the
alarm stands. A cluster of three nodes serves the datastores and runs the agent in mode `repair`. Then sessions that
expire, servers that are no vCenter, and one with 5,000 hosts. vcenter_faults.py has what takes longer. Each check has a
host of its own, because the cool-down of a mount is five minutes.

Not shown here: a real ESXi host. The simulator mounts nothing; what it cannot show is listed in docs/vcenter.md."""
import http.server, json, os, resource, shutil, socket, ssl, subprocess, sys, tempfile, threading, time
import vcenter_shim
from cluster import ADDRESS, TRIVET, Cluster
from pyVim.connect import Disconnect, SmartConnect
from pyVmomi import vim

HOST2, HOST3, HOST4, HOST5 = ["DC0_C0_H%d" % n for n in (1, 2, 3, 4)]
DATASTORES = ["ds1", "ds2"]
CHECKS = []


def check(name):
    def add(function):
        CHECKS.append((name, function))
        return function
    return add


def settings(shim, folder, **more):
    values = dict(url=shim.url, user="agent", password_file=os.path.join(folder, "password"), thumbprint=vcenter_shim.thumbprint(shim.cert),
                  mode="repair", poll_seconds=2, alert_after_seconds=5, repair_after_seconds=10, failover_hold_seconds=10, repairs_per_hour=20)
    values.update(more)
    text = "\n[vcenter]\n" + "".join("%s = %s\n" % (k, json.dumps(v)) for k, v in values.items() if v is not None)
    return text + "".join('[[vcenter.datastores]]\nname = "%s"\nserver = "%s"\npath = "/%s"\n' % (d, ADDRESS, d) for d in DATASTORES)


def write_password(folder, password):
    path = os.path.join(folder, "password")
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as f:
        f.write(password + "\n")


class Judge:
    """The view of pyVmomi, through the same proxy."""

    def __init__(self, shim):
        context = ssl._create_unverified_context()
        self.service = SmartConnect(host="127.0.0.1", port=shim.port, user=shim.user, pwd=shim.password, sslContext=context)
        self.content = self.service.RetrieveContent()

    def hosts(self):
        view = self.content.viewManager.CreateContainerView(self.content.rootFolder, [vim.HostSystem], True)
        hosts = {h.name: h for h in view.view}
        view.Destroy()
        return hosts

    def nfs(self, host):
        """Reference, server and path by name, of the NFS datastores of a host."""
        found = {}
        for ds in self.hosts()[host].datastore:
            nas = getattr(ds.info, "nas", None)
            if nas:
                found[ds.name] = (ds._moId, nas.remoteHost, nas.remotePath)
        return found

    def issues(self, host):
        return [i.fullFormattedMessage for i in self.hosts()[host].configIssue if getattr(i, "eventTypeId", "") == vcenter_shim.HEARTBEAT]

    def heartbeats(self, host):
        cluster = self.hosts()[host].parent
        info = cluster.RetrieveDasAdvancedRuntimeInfo()
        return sum(any(h.name == host for h in i.hosts) for i in info.heartbeatDatastoreInfo)

    def events(self):
        events = self.content.eventManager.QueryEvents(vim.event.EventFilterSpec())
        return [e.fullFormattedMessage or "" for e in events if "Trivet" in (e.fullFormattedMessage or "")]

    def mount(self, host, name, server=ADDRESS):
        spec = vim.host.NasVolume.Specification(remoteHost=server, remotePath="/" + name, localPath=name, accessMode="readWrite", type="NFS")
        self.hosts()[host].configManager.datastoreSystem.CreateNasDatastore(spec)

    def close(self):
        Disconnect(self.service)


class Lab:
    def __init__(self):
        self.folder = tempfile.mkdtemp(prefix="trivet-vcenter.")
        self.shim = vcenter_shim.Shim(self.folder, DATASTORES)
        write_password(self.folder, "geheim")
        self.judge = Judge(self.shim)
        for host in self.judge.hosts():
            for ds in DATASTORES:
                self.judge.mount(host, ds)
        self.cluster = Cluster(keep=True)

    def start(self):
        with self.cluster:
            pass
        for n in (1, 2, 3):
            with open(os.path.join(self.cluster.data, "node%d" % n, "node.toml"), "a") as f:
                f.write(settings(self.shim, self.folder))
        self.cluster.__enter__()

    def vcenter(self, *args):
        out = subprocess.run([TRIVET, "vcenter", *args, "--data", self.cluster.data], capture_output=True, text=True)
        return out.stdout, out.stderr

    def status(self):
        out, _ = self.vcenter("status", "--json")
        return json.loads(out) if out else None

    def wait(self, what, test, seconds):
        """Returns how long it took."""
        begun = time.time()
        while time.time() - begun < seconds:
            s = self.status()
            if s and test(s):
                return time.time() - begun
            time.sleep(0.3)
        raise AssertionError("not within %d s: %s\n%s" % (seconds, what, json.dumps(self.status(), ensure_ascii=False)[:3000]))

    def stop(self):
        if hasattr(self.cluster, "process"):  # some checks need no cluster
            self.cluster.stop()
        self.judge.close()
        self.shim.stop()
        shutil.rmtree(self.cluster.folder, ignore_errors=True)
        shutil.rmtree(self.folder, ignore_errors=True)


def alerts(s):
    return {(a["id"], a["host"]) for a in s["alerts"]}


def repaired(s):
    return [x for x in s["steps"] if x["proof"] == "repaired"]


def well(s):
    return s["matrix"] and all(c["state"] == "OK" for c in s["matrix"]) and not s["open_step"] and not s["alerts"]


@check("the agent sees a healthy cluster and says what it may do")
def healthy(lab):
    lab.wait("a healthy matrix", lambda s: well(s) and len(s["matrix"]) == 10, 60)
    out = subprocess.run([TRIVET, "vcenter", "check", "--data", lab.cluster.data], capture_output=True, text=True)
    assert out.returncode == 0, out.stderr
    assert "may Host.Config.Storage" in out.stdout and "never unmounts" in out.stdout, out.stdout
    files = [os.path.join(top, f) for top, _, names in os.walk(lab.cluster.data) for f in names if f in ("node.log", "events.jsonl")]
    logs = "".join(open(f).read() for f in files)
    assert "agent works under epoch" in logs, logs[-2000:]
    for name, text in [("log", logs), ("check", out.stdout), ("status", json.dumps(lab.status()))]:
        at = text.find("geheim")
        assert at < 0, "the password is in the %s: %s" % (name, text[max(0, at - 200):at + 20])


@check("the case: host 2 loses ds2; alert, repair, proof in both languages")
def the_case(lab):
    peers = lab.judge.nfs("DC0_C0_H0")["ds2"]
    lab.shim.sim.lose(HOST2, "ds2")
    begun = time.time()
    while not lab.judge.issues(HOST2) and time.time() - begun < 10:
        time.sleep(0.2)
    assert "少于要求数目 2" in lab.judge.issues(HOST2)[0] and lab.judge.heartbeats(HOST2) == 1
    lab.wait("the alerts", lambda s: {("DS_NOT_MOUNTED", HOST2), ("HA_HEARTBEAT_FEW", HOST2)} <= alerts(s), 60)
    seen = time.time() - begun
    lab.wait("the repair", lambda s: repaired(s) and well(s), 120)
    took = time.time() - begun
    assert lab.judge.nfs(HOST2)["ds2"] == peers, "another datastore than the peers'"
    assert not lab.judge.issues(HOST2) and lab.judge.heartbeats(HOST2) == 2
    steps = lab.status()["steps"]
    did = [(x["action"]["do"], x["proof"]) for x in steps]
    assert did == [("refresh", "not-proved"), ("mount", "repaired")], did
    assert "已修复" in steps[-1]["text"]["zh"] and "mount datastore ds2" in steps[-1]["text"]["en"], steps[-1]
    events = lab.judge.events()
    assert any("repaired" in e and "已修复" in e for e in events), events
    print("  alerts after %.0f s, repaired and proved after %.0f s" % (seen, took))


@check("a host loses its NFS server for seconds: its events are told in both languages, and nothing is done")
def host_events(lab):
    steps = len(lab.status()["steps"])
    lab.shim.report(HOST2, "esx.problem.vmfs.nfs.server.disconnect", "Lost connection to server 127.0.0.70 mount point /ds2")
    lab.shim.report(HOST2, "esx.problem.storage.apd.start", "Device or filesystem has entered the All Paths Down state.")
    lab.shim.report(HOST2, "esx.audit.dcui.enabled", "The DCUI has been enabled.")
    shown = lambda s: [e["kind"] for h in s["hosts"] if h["name"] == HOST2 for e in h["events"]]
    took = lab.wait("the host's events", lambda s: shown(s) == ["esx.problem.vmfs.nfs.server.disconnect", "esx.problem.storage.apd.start"], 60)
    time.sleep(12)  # the next readings have them again
    files = [os.path.join(top, f) for top, _, names in os.walk(lab.cluster.data) for f in names if f == "events.jsonl"]
    told = [line for f in files for line in open(f) if "all paths down (APD)" in line or "lost its connection to an NFS server" in line]
    assert len(told) == 2 and all("主机 " + HOST2 in line for line in told), told
    assert well(lab.status()) and len(lab.status()["steps"]) == steps
    print("  seen after %.0f s" % took)


@check("a session that expired is renewed, once")
def expired(lab):
    before, steps = lab.shim.logins, len(lab.status()["steps"])
    lab.shim.expire()
    time.sleep(8)
    assert lab.shim.logins == before + 1, lab.shim.logins - before
    assert well(lab.status()) and len(lab.status()["steps"]) == steps
    lab.judge = Judge(lab.shim)


@check("a host alone in APD: its connections are closed at the gateway, it connects again, nobody else notices")
def alone_in_apd(lab):
    connect = lambda source: socket.create_connection((ADDRESS, 2049), 5, source_address=(source, 0))
    lab.shim.addresses[HOST5] = "127.0.0.25"
    host, other = connect("127.0.0.25"), connect("127.0.0.26")
    lab.shim.inaccessible[(HOST5, "ds1")] = "AllPathsDown_Start"
    begun = time.time()
    host.settimeout(90)
    try:
        assert host.recv(1) == b"", "an answer without a call"
    except ConnectionResetError:
        pass
    closed = time.time() - begun
    again = connect("127.0.0.25")
    del lab.shim.inaccessible[(HOST5, "ds1")]
    lab.wait("the repair", lambda s: well(s) and s["steps"][-1]["proof"] == "repaired", 90)
    step = lab.status()["steps"][-1]
    assert (step["action"]["do"], step["host_name"]) == ("reset-client", HOST5), step
    for still in (other, again):
        still.settimeout(1)
        try:
            assert still.recv(1) != b"", "the connection of another host, or the new one, was closed"
        except TimeoutError:
            pass
        still.close()
    print("  closed after %.0f s, proved after %.0f s" % (closed, time.time() - begun))


# Servers that are no vCenter, and one with 5,000 hosts: `trivet vcenter check` says so in one line.

def reply(inner):
    return vcenter_shim.ENVELOPE % inner


CONTENT = reply('<RetrieveServiceContentResponse xmlns="urn:vim25"><returnval><rootFolder type="Folder">group-d1</rootFolder><propertyCollector type="PropertyCollector">pc</propertyCollector>'
                '<viewManager type="ViewManager">vm</viewManager><about><fullName>Five thousand</fullName><apiType>VirtualCenter</apiType><apiVersion>8.0</apiVersion></about>'
                '<sessionManager type="SessionManager">sm</sessionManager></returnval></RetrieveServiceContentResponse>')


class Wrong(http.server.BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def send(self, text, length=None):
        data = text if isinstance(text, bytes) else text.encode()
        self.send_response(self.code)
        self.send_header("Content-Length", str(length or len(data)))
        self.end_headers()
        self.wfile.write(data)

    code = 200

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.play()


def wrong(name):
    def garbage(self): self.send(os.urandom(100_000))
    def text(self): self.send("garbage " * 1000)
    def truncated(self): self.send(CONTENT[:300], length=len(CONTENT))
    def cut(self): self.send(CONTENT[:300])
    def dtd(self): self.send('<!DOCTYPE a [<!ENTITY b "' + "x" * 1000 + '"><!ENTITY c "' + "&b;" * 1000 + '">]><a>' + "&c;" * 1000 + "</a>")
    def deep(self): self.send("<a>" * 200_000 + "</a>" * 200_000)
    def wide(self): self.send("<a>" + "<b/>" * 2_000_000 + "</a>")
    def page(self): self.code = 404; self.send("<html>not found</html>")
    def html(self): self.send("<html><body>welcome</body></html>")

    def endless(self):
        self.send_response(200)
        self.end_headers()
        while True:
            self.wfile.write(b"<a>endless</a>" * 5_000)

    def slow(self): time.sleep(60)

    def drip(self):
        self.send_response(200)
        self.end_headers()
        while True:
            self.wfile.write(b"<")
            time.sleep(0.5)
    return type(name, (Wrong,), {"play": dict(locals())[name]})


WANT = {"garbage": "is not UTF-8", "text": "no XML", "truncated": "connection ended", "cut": "no XML", "dtd": "document type definition", "deep": "nested deeper than 64",
        "wide": "more than 600000 nodes", "page": "HTTP status 404", "html": "lacks a SOAP body", "endless": "longer than 16777216 bytes", "slow": "no answer within 20 s", "drip": "no answer within 20 s"}


def node_toml(folder, name, shim_like, thumb, **more):
    text = ('version = 1\ncluster = "c"\nincarnation = 1\nnode = 1\nkey_file = "k"\ndata = "d"\ndatastore_addresses = []\n[ports]\nclient = 1\nquorum = 2\nelection = 3\nnfs = 4\nconsole = 5\ncontrol = 6\ndata = 7\n'
            '[nodes]\n1 = "127.0.0.1"\n')
    values = dict(url=shim_like, user="agent", password_file=os.path.join(folder, "password"), thumbprint=thumb)
    values.update(more)
    path = os.path.join(folder, name + ".toml")
    with open(path, "w") as f:
        f.write(text + "[vcenter]\n" + "".join("%s = %s\n" % (k, json.dumps(v)) for k, v in values.items() if v is not None))
    return path


def run_check(path, limit=60):
    """Exit status, what it said, seconds, and its own peak memory in MiB."""
    begun = time.time()
    child = subprocess.Popen([TRIVET, "vcenter", "check", "--data", path], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    timer = threading.Timer(limit, child.kill)
    timer.start()
    out, error = child.stdout.read(), child.stderr.read()
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    timer.cancel()
    return child.returncode, out, error, time.time() - begun, usage.ru_maxrss / 1024


@check("servers that are no vCenter: one clear line each, bounded time and memory")
def not_a_vcenter(lab):
    key, cert = vcenter_shim.certificate(lab.folder, "wrong")
    thumb, found, threads = vcenter_shim.thumbprint(cert), {}, []

    def one(name):
        server = vcenter_shim.started(vcenter_shim.tls_server(wrong(name), key, cert))
        path = node_toml(lab.folder, name, "https://127.0.0.1:%d" % server.server_address[1], thumb)
        found[name] = run_check(path)
        server.shutdown()
    for name in WANT:
        threads.append(threading.Thread(target=one, args=(name,)))
        threads[-1].start()
    for t in threads:
        t.join()
    for name, (code, out, error, seconds, mib) in sorted(found.items()):
        print("  %-10s %5.1f s %6.1f MiB  %s" % (name, seconds, mib, error.strip()[:150]))
        assert code == 1 and WANT[name] in error and error.count("\n") == 1, (name, code, out, error)
        assert seconds < 45 and mib < 250, (name, seconds, mib)


@check("a wrong certificate is refused, with the one that was seen; nothing is sent to it")
def certificate(lab):
    good = vcenter_shim.thumbprint(lab.shim.cert)
    logins, calls = lab.shim.logins, len(lab.shim.calls)
    for name, thumb, want in [("pin", ("00:" * 32)[:-1], good), ("roots", None, good)]:
        code, _, error, _, _ = run_check(node_toml(lab.folder, name, lab.shim.url, thumb))
        assert code == 1 and want in error and "not trusted" in error and error.count("\n") == 1, error
    out = subprocess.run([TRIVET, "vcenter", "thumbprint", "127.0.0.1:%d" % lab.shim.port], capture_output=True, text=True)
    assert out.stdout.strip() == good, out
    code, out, error, _, _ = run_check(node_toml(lab.folder, "ca", lab.shim.url, None, ca=lab.shim.cert))
    assert code == 1 and "not trusted" in error, "a self-signed server certificate is no CA: %s %s" % (out, error)
    code, _, error, _, _ = run_check(node_toml(lab.folder, "http", lab.shim.url.replace("https", "http"), good))
    assert code == 1 and "https only" in error, error


@check("5,000 hosts in one cluster are read in pages, within bounds")
def five_thousand(lab):
    hosts, size = 5_000, 100

    class Big(Wrong):
        protocol_version = "HTTP/1.1"

        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            val = lambda name, v: "<propSet><name>%s</name><val>%s</val></propSet>" % (name, v)
            if "RetrieveServiceContent" in body:
                text = CONTENT
            elif "<Login" in body:
                text = reply('<LoginResponse xmlns="urn:vim25"><returnval><key>k</key></returnval></LoginResponse>')
            elif "<CreateContainerView" in body:
                kind = body.split("<type>")[1].split("<")[0]
                text = reply('<CreateContainerViewResponse xmlns="urn:vim25"><returnval type="ContainerView">%s</returnval></CreateContainerViewResponse>' % kind)
            elif "RetrievePropertiesEx" in body:
                objects, token = "", ""
                if ">ClusterComputeResource</obj>" in body:
                    objects = '<objects><obj type="ClusterComputeResource">c</obj>%s</objects>' % val("name", "big")
                elif ">Datastore</obj>" in body:
                    mounts = "".join('<DatastoreHostMount><key type="HostSystem">host-%d</key><mountInfo><accessMode>readWrite</accessMode><mounted>true</mounted><accessible>true</accessible></mountInfo></DatastoreHostMount>' % n for n in range(hosts))
                    nas = "<nas><type>NFS</type><remoteHost>10.0.0.9</remoteHost><remotePath>/ds1</remotePath></nas>"
                    objects = '<objects><obj type="Datastore">datastore-1</obj>%s</objects>' % (val("name", "ds1") + val("info", nas) + val("host", mounts))
                else:
                    at = int(body.split("<token>")[1].split("<")[0]) if "<token>" in body else 0
                    one = lambda n: '<objects><obj type="HostSystem">host-%d</obj>%s</objects>' % (n, val("name", "esx%d" % n) + val("runtime.connectionState", "connected") + val("runtime.powerState", "poweredOn") + val("datastore", "" if n == 77 else '<ManagedObjectReference type="Datastore">datastore-1</ManagedObjectReference>'))
                    objects = "".join(one(n) for n in range(at, min(at + size, hosts)))
                    token = "<token>%d</token>" % (at + size) if at + size < hosts else ""
                text = reply('<RetrievePropertiesExResponse xmlns="urn:vim25"><returnval>%s%s</returnval></RetrievePropertiesExResponse>' % (token, objects))
            else:
                text = reply('<X xmlns="urn:vim25"/>')
            self.send(text)
    server = vcenter_shim.started(vcenter_shim.tls_server(Big, lab.shim.key, lab.shim.cert))
    path = node_toml(lab.folder, "big", "https://127.0.0.1:%d" % server.server_address[1], vcenter_shim.thumbprint(lab.shim.cert))
    code, out, error, seconds, mib = run_check(path)
    server.shutdown()
    assert code == 0, error
    assert out.count("has datastore ds1") == hosts - 1 and "! host esx77 lacks datastore ds1" in out
    print("  %d hosts in %.1f s, peak %.1f MiB" % (hosts, seconds, mib))
    assert seconds < 45 and mib < 250, (seconds, mib)


def main(checks, names):
    lab = Lab()
    try:
        if not names or any(n not in ("not_a_vcenter", "certificate", "five_thousand") for n in names):
            lab.start()
        for name, function in checks:
            if names and function.__name__ not in names:
                continue
            begun = time.time()
            print(name, flush=True)
            function(lab)
            print("  ok, %.1f s" % (time.time() - begun), flush=True)
    finally:
        lab.stop()


if __name__ == "__main__":
    main(CHECKS, sys.argv[1:])
