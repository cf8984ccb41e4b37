#!/usr/bin/env python3
"""Mounts without port options: what a hypervisor's own dialogue does.

A cluster that answers on port 111 of its datastore address itself; one beside a system's rpcbind, which is told and told
again at the end; one that may not have the port, and says so. showmount and rpcinfo ask; a kernel client mounts.
All of it in network and mount namespaces of its own: neither the machine's rpcbind nor its socket is touched."""
import os, signal, socket, struct, subprocess, sys, time

if os.environ.get("TRIVET_PORTMAP_INSIDE") != "1":
    os.environ["TRIVET_PORTMAP_INSIDE"] = "1"
    sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
    import cluster
    cluster.prepare()
    inside = "ip link set lo up; mount -t tmpfs tmpfs /run; mkdir -p /run/rpcbind; exec \"$@\""
    os.execvp("unshare", ["unshare", "--net", "--mount", "sh", "-c", inside, "sh", sys.executable] + sys.argv)

from cluster import ADDRESS, TRIVET, Cluster, Guest  # noqa: E402

PROGRAMS = {100000: {2, 3, 4}, 100003: {3}, 100005: {3}}
SCRIPT = """
echo hello > a && [ "$(cat a)" = hello ] || echo FAIL the file
mkdir /other; mount -t nfs -o "addr=$NFS_SERVER,$NFS_OPTS" "$NFS_SERVER:/ds1/" /other 2>/dev/null && echo FAIL /ds1/ was mounted
grep " /mnt " /proc/mounts
echo END
"""


def ask(*command, fails=False):
    p = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert (p.returncode != 0) == fails, "%s: %s" % (" ".join(command), p.stdout + p.stderr)
    return p.stdout + p.stderr


def mnt(path, udp):
    """The status of a MNT."""
    name = path.encode()
    call = struct.pack(">10I", 7, 0, 2, 100005, 3, 1, 0, 0, 0, 0) + struct.pack(">I", len(name)) + name + b"\0" * (-len(name) % 4)
    if udp:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
            s.settimeout(2)
            for _ in range(5):
                s.sendto(call, (ADDRESS, 2049))
                try:
                    reply = s.recv(2000)
                    break
                except socket.timeout:
                    continue
            else:
                raise AssertionError("no answer over UDP")
    else:
        with socket.create_connection((ADDRESS, 2049), 5) as s:
            s.sendall(struct.pack(">I", 0x80000000 | len(call)) + call)
            mark = s.recv(4, socket.MSG_WAITALL)
            reply = s.recv(struct.unpack(">I", mark)[0] & 0x7fffffff, socket.MSG_WAITALL)
    return struct.unpack(">I", reply[24:28])[0]


def served(lines):
    """(program, version, protocol, port) of `rpcinfo -p`."""
    found = set()
    for line in lines.splitlines()[1:]:
        program, version, protocol, port = line.split()[:4]
        found.add((int(program), int(version), protocol, int(port)))
    return found


def clients_ask(also_rpcbind):
    """What every kind of server of port 111 has to answer."""
    exports = ask("showmount", "-e", "--no-headers", ADDRESS).split()
    assert exports[::2] == ["/ds1", "/ds2"], exports
    listed = served(ask("rpcinfo", "-p", ADDRESS))
    ours = {(100003, 3, "tcp", 2049), (100005, 3, "tcp", 2049), (100005, 3, "udp", 2049)}
    assert ours <= listed, listed
    if not also_rpcbind:
        assert {(p, v) for p, v, _, _ in listed} == {(p, v) for p, vs in PROGRAMS.items() for v in vs}, listed
    # rpcbind version 4, with universal addresses.
    assert ADDRESS + ".8.1" in ask("rpcinfo", ADDRESS) or also_rpcbind
    for transport, program, version in (("tcp", 100003, 3), ("tcp", 100005, 3), ("udp", 100005, 3)):
        assert "ready and waiting" in ask("rpcinfo", "-T", transport, ADDRESS, str(program), str(version))
    for transport, program, version in (("udp", 100003, 3), ("tcp", 100003, 4), ("tcp", 100021, 4)):
        assert "ready" not in ask("rpcinfo", "-T", transport, ADDRESS, str(program), str(version), fails=True)


def guest_mounts():
    g = Guest(SCRIPT, options=["--no-ports"])
    g.wait_for("END", 120)
    g.end()
    mounted = next(l for _, l in g.lines if " /mnt " in l)
    assert "port=" not in mounted and "nolock" in mounted, mounted
    print("kernel client without port options:", mounted.split()[3])


def own():
    with Cluster() as c:
        text = ask(TRIVET, "status", "--data", c.data)
        assert "port 111 of %s is served by this node" % ADDRESS in text, text
        told = open(c.log.name).read()
        assert "vers=3,tcp,nolock %s:/ds1" % ADDRESS in told, told
        clients_ask(False)
        for udp in (False, True):
            assert mnt("/ds1", udp) == 0 and [mnt(p, udp) for p in ("/ds1/", "//ds1", "ds1", "/ds1//", "/")] == [2] * 5
        events = [e for n in c.status() for e in n["events"] if e["subject"] == "mount"]
        assert any("/ds1/" in e["what"] and "is /ds1," in e["why"] for e in events), events
        guest_mounts()
        # The portmapper goes where the address goes.
        holder = c.leaders()[2]
        c.kill(holder)
        c.wait("another node has the address", lambda n: c.leaders(n)[2] not in (None, holder))
        c.wait("all nodes", c.all_ready)
        clients_ask(False)
    print("own portmapper: showmount, rpcinfo and a kernel mount, before and after the address moved")


def beside_rpcbind():
    rpcbind = subprocess.Popen(["rpcbind", "-f"], stderr=subprocess.DEVNULL)
    try:
        end = time.time() + 10
        while not os.path.exists("/run/rpcbind.sock") and time.time() < end:
            time.sleep(0.05)
        before = served(ask("rpcinfo", "-p", "127.0.0.1"))
        with Cluster() as c:
            text = ask(TRIVET, "status", "--data", c.data)
            assert "registered with the system's rpcbind" in text, text
            clients_ask(True)
            guest_mounts()
            c.stop()
            left = served(ask("rpcinfo", "-p", "127.0.0.1"))
            assert left == before, left - before
    finally:
        rpcbind.send_signal(signal.SIGTERM)
        rpcbind.wait(10)
    print("beside a system's rpcbind: registered, mounted, unregistered at the end")


def without():
    for options, before, word in (
        (["--port-offset", "1000"], [], "need port=3049,mountport=3049: the portmapper is switched off"),
        ([], ["setpriv", "--bounding-set=-net_bind_service", "--inh-caps=-net_bind_service"], "need port=2049,mountport=2049: this process may not listen on port 111"),
    ):
        data = os.path.join(os.environ.get("TMPDIR", "/tmp"), "trivet-portmap.%d" % os.getpid())
        told = ask(*before, TRIVET, "up", "--data", data, "--exec", "true", *options)
        subprocess.run(["rm", "-rf", data])
        assert word in told and "port=" in next(l for l in told.splitlines() if "mount -t nfs" in l), told
    print("without port 111: the explicit ports, and why")


own()
beside_rpcbind()
without()
