#!/usr/bin/env python3
"""Mounts without port options: what a hypervisor's own dialogue does.

A cluster that answers on port 111 of its datastore address itself; one beside a system's rpcbind, which is told and told
again at the end; one that may not have the port, and says so; one with an IPv6 address. showmount and rpcinfo ask; a
kernel client mounts a datastore, a folder of it, and a read-only one.
All of it in network and mount namespaces of its own: neither the machine's rpcbind nor its socket is touched."""
import os, re, signal, socket, struct, subprocess, sys, time

if os.environ.get("TRIVET_PORTMAP_INSIDE") != "1":
    os.environ["TRIVET_PORTMAP_INSIDE"] = "1"
    sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
    import cluster
    cluster.prepare()
    inside = "ip link set lo up; mount -t tmpfs tmpfs /run; mkdir -p /run/rpcbind; exec \"$@\""
    os.execvp("unshare", ["unshare", "--net", "--mount", "sh", "-c", inside, "sh", sys.executable] + sys.argv)

from cluster import ADDRESS, TRIVET, Cluster, Guest  # noqa: E402

PROGRAMS = {100000: {2, 3, 4}, 100003: {3}, 100005: {3}, 100021: {4}, 100024: {1}}
SCRIPT = """
also() { mkdir $2; mount -t nfs -o "addr=$NFS_SERVER,$NFS_OPTS" "$NFS_SERVER:$1" $2 2>/dev/null; }
echo hello > a && [ "$(cat a)" = hello ] || echo FAIL the file
mkdir /xcp; mount -t nfs -o "addr=$NFS_SERVER,$NFS_OPTS,soft,proto=tcp,vers=3,acdirmin=0,acdirmax=0,timeo=100,retrans=12" "$NFS_SERVER:/ds1" /xcp || echo FAIL as XCP-ng mounts
[ "$(cat /xcp/a)" = hello ] || echo FAIL the file as XCP-ng mounts; umount /xcp
also /ds1/ /other && echo FAIL /ds1/ was mounted
mkdir -p sr/0b-1; also /ds1/sr/0b-1 /sub || echo FAIL a folder is not mounted
echo below > /sub/b && [ "$(cat /mnt/sr/0b-1/b)" = below ] || echo FAIL the file in the folder
also /ds2 /ro || echo FAIL /ds2
echo x > /ro/c || echo FAIL /ds2 is not writable yet
grep " /mnt " /proc/mounts
echo MOUNTED; read next
ls /mnt /sub /ro > /dev/null || echo FAIL listing
[ $next = set ] && { echo x > /ro/d && echo FAIL a read-only datastore was written to; rm -f /ro/c 2>/dev/null; [ -e /ro/c ] || echo FAIL a read-only datastore lost a file; cat /ro/c > /dev/null || echo FAIL reading; }
echo LISTED; read next
echo END
"""
# The first mount of a server decides how many connections there are.
FOUR = """
for i in 1 2 3 4 5 6 7 8; do dd if=/dev/zero of=n$i bs=64k count=8 conv=fsync 2>/dev/null & done; wait
[ $(cat n? | wc -c) = 4194304 ] || echo FAIL the files over four connections
grep ' /mnt ' /proc/mounts | grep -q nconnect=4 || echo FAIL nconnect
n=$(netstat -tn | grep ':2049 ' | grep -c ESTABLISHED); [ $n = 4 ] || echo FAIL $n connections
rm n?; echo END
"""
SIXTH = "fd00:1::70"
OVER_IPV6 = """
i=0
until mount -t nfs -o "addr=%s,vers=3,proto=tcp6,mountproto=tcp6,nolock" "[%s]:/ds1" /mnt; do
  i=$((i+1)); [ $i -lt 30 ] || { dmesg | tail -5; echo FAIL mount over IPv6; exit 1; }; sleep 0.5
done
echo hello > /mnt/six && [ "$(cat /mnt/six)" = hello ] || echo FAIL the file
grep " /mnt " /proc/mounts
echo END
""" % (SIXTH, SIXTH)


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
    """The answers that every kind of server of port 111 has to give."""
    exports = ask("showmount", "-e", "--no-headers", ADDRESS).split()
    assert exports[::2] == ["/ds1", "/ds2"], exports
    listed = served(ask("rpcinfo", "-p", ADDRESS))
    ours = {(100003, 3, "tcp", 2049)} | {(p, v, t, 2049) for p, v in ((100005, 3), (100021, 4), (100024, 1)) for t in ("tcp", "udp")}
    assert ours <= listed, listed
    if not also_rpcbind:
        assert {(p, v) for p, v, _, _ in listed} == {(p, v) for p, vs in PROGRAMS.items() for v in vs}, listed
    # rpcbind version 4, with universal addresses.
    assert ADDRESS + ".8.1" in ask("rpcinfo", ADDRESS) or also_rpcbind
    for transport, program, version in (("tcp", 100003, 3), ("tcp", 100005, 3), ("udp", 100005, 3), ("tcp", 100021, 4), ("udp", 100024, 1)):
        assert "ready and waiting" in ask("rpcinfo", "-T", transport, ADDRESS, str(program), str(version))
    for transport, program, version in (("udp", 100003, 3), ("tcp", 100003, 4), ("tcp", 100021, 3)):
        assert "ready" not in ask("rpcinfo", "-T", transport, ADDRESS, str(program), str(version), fails=True)


def products_ask():
    """The questions of Proxmox VE (NFSPlugin.pm, `scan_nfs` and `check_connection`) and of XCP-ng (sm's nfs.py), and how they read
    the answers."""
    lines = ask("showmount", "--no-headers", "--exports", ADDRESS).splitlines()
    assert {m.group(1) for m in (re.match(r"^(\S+)\s+(.+)$", l) for l in lines) if m} == {"/ds1", "/ds2"}, lines
    assert {tuple(l.split())[0] for l in lines if len(l.split()) == 2} == {"/ds1", "/ds2"}, "XCP-ng takes lines of two words only: %s" % lines
    services = ask("rpcinfo", "-s", ADDRESS).splitlines()
    assert any(l.find("nfs") > 0 for l in services), services
    versions = {l.split()[1] for l in ask("rpcinfo", "-p", ADDRESS).splitlines() if l.find("nfs") > 0}
    assert versions & {"3", "4"} == {"3"}, versions
    print("as Proxmox VE scans and checks, and as XCP-ng probes: both datastores, NFS version 3")


def mounted_by():
    """The answer to DUMP: {path: clients}."""
    found = {}
    for line in ask("showmount", "--all", "--no-headers", ADDRESS).split():
        client, path = line.split(":", 1)
        found.setdefault(path, set()).add(client)
    return found


def exported():
    """EXPORT's paths and networks; nothing while the address moves."""
    p = subprocess.run(["showmount", "-e", "--no-headers", ADDRESS], capture_output=True, text=True, timeout=30)
    return p.stdout.split() if p.returncode == 0 else None


def datastore(c, *args):
    return ask(TRIVET, "datastore", "--data", c.data, *args)


def guest_mounts(c, moves):
    g = Guest(SCRIPT, options=["--no-ports"])
    g.wait_for("MOUNTED", 120)
    mounted = next(l for _, l in g.lines if " /mnt " in l)
    assert "port=" not in mounted and "nolock" in mounted, mounted
    paths = {"/ds1", "/ds1/sr/0b-1", "/ds2"}
    assert set(mounted_by()) == paths, mounted_by()
    if moves:
        # A client that mounted at the node that had the address before is known by its calls, with the datastore only.
        holder = c.leaders()[2]
        c.kill(holder)
        c.wait("another node has the address", lambda n: c.leaders(n)[2] not in (None, holder))
        datastore(c, "set", "ds2", "--read-only", "--clients", "127.0.0.0/8,10.0.0.0/8")
        c.wait("the change is shown", lambda _: "127.0.0.0/8, 10.0.0.0/8, to read\n" in datastore(c, "show", "ds2"), 10)

        def shows_the_networks(_):
            """The gateway with the address hears of the change with a heartbeat."""
            found = exported()
            return found and len(found) > 3 and sorted(found[3].split(",")) == ["10.0.0.0/8", "127.0.0.0/8"]

        c.wait("the node with the address exports to the networks", shows_the_networks, 20)
    g.say("set" if moves else "go")
    g.wait_for("LISTED", 60)
    if moves:
        assert {"/ds1", "/ds2"} <= set(mounted_by()) <= paths, mounted_by()
        shown = datastore(c, "show", "ds2")
        assert "mounted by" in shown and "(/ds2)" in shown and "vers=3,tcp,nolock,ro %s:/ds2" % ADDRESS in shown, shown
        datastore(c, "set", "ds2", "--read-write", "--clients", "192.0.2.0/24")
        # A gateway hears of it with its next heartbeat.
        c.wait("another network is refused", lambda _: mnt("/ds2", False) == 13, 10)
        datastore(c, "set", "ds2", "--everybody")
        c.wait("everybody mounts", lambda _: mnt("/ds2", False) == 0, 10)
    g.say("go")
    g.wait_for("END", 60)
    g.end()
    print("kernel client without port options, a folder and another datastore:", mounted.split()[3])


def four_connections():
    g = Guest(FOUR, options=["--no-ports", "--opts", "hard,nconnect=4"])
    g.wait_for("END", 120)
    g.end()
    print("kernel client with nconnect=4: four connections, all of them used")


def own():
    with Cluster() as c:
        # Its exit status is 1 where a disk of this machine is nearly full, which is of no interest here.
        text = subprocess.run([TRIVET, "status", "--data", c.data], capture_output=True, text=True, timeout=30).stdout
        assert "port 111 of %s is served by this node" % ADDRESS in text, text
        told = open(c.log.name).read()
        assert "vers=3,tcp,nolock %s:/ds1" % ADDRESS in told, told
        clients_ask(False)
        products_ask()
        for udp in (False, True):
            assert mnt("/ds1", udp) == 0 and [mnt(p, udp) for p in ("/ds1/", "//ds1", "ds1", "/ds1//", "/")] == [2] * 5
        events = [e for n in c.status() for e in n["events"] if e["subject"] == "mount"]
        assert any("/ds1/" in e["what"] and "is /ds1," in e["why"] for e in events), events
        four_connections()
        guest_mounts(c, True)
        # The portmapper went where the address went.
        c.wait("all nodes", c.all_ready)
        clients_ask(False)
    print("own portmapper: showmount, rpcinfo and a kernel mount, before and after the address moved; datastore show and set")


def beside_rpcbind():
    # On a real host the address is one of an interface, and rpcbind names a client the interface's address that it asked.
    subprocess.check_call(["ip", "addr", "add", ADDRESS + "/32", "dev", "lo"])
    rpcbind = subprocess.Popen(["rpcbind", "-f"], stderr=subprocess.DEVNULL)
    try:
        end = time.time() + 10
        while not os.path.exists("/run/rpcbind.sock") and time.time() < end:
            time.sleep(0.05)
        before = served(ask("rpcinfo", "-p", "127.0.0.1"))
        with Cluster() as c:
            text = subprocess.run([TRIVET, "status", "--data", c.data], capture_output=True, text=True, timeout=30).stdout
            assert "registered with the system's rpcbind" in text, text
            clients_ask(True)
            guest_mounts(c, False)
            c.stop()
            left = served(ask("rpcinfo", "-p", "127.0.0.1"))
            assert left == before, left - before
    finally:
        rpcbind.send_signal(signal.SIGTERM)
        rpcbind.wait(10)
        subprocess.check_call(["ip", "addr", "del", ADDRESS + "/32", "dev", "lo"])
    print("beside a system's rpcbind: registered, mounted, unregistered at the end")


def over_ipv6():
    ip = lambda *args: subprocess.check_call(["ip"] + list(args))
    ip("tuntap", "add", "t0", "mode", "tap")
    ip("addr", "add", "fd00:1::1/64", "dev", "t0", "nodad")
    ip("addr", "add", SIXTH + "/128", "dev", "t0", "nodad")
    ip("link", "set", "t0", "up")
    with Cluster("--nodes", "1") as c:
        c.stop()
        config = c.data + "/node1/node.toml"
        text = open(config).read()
        open(config, "w").write(text.replace('datastore_addresses = ["%s"]' % ADDRESS, 'datastore_addresses = ["%s", "%s"]' % (ADDRESS, SIXTH)))
        node = subprocess.Popen([TRIVET, "serve", "--config", config], stdout=open(c.folder + "/serve.log", "wb"), stderr=subprocess.STDOUT)
        try:
            c.wait("the IPv6 address", lambda n: any(p["address"] == SIXTH and p["how"]["kind"] == "own" for x in n for p in x["portmappers"]))
            assert ask("showmount", "-e", "--no-headers", SIXTH).split()[::2] == ["/ds1", "/ds2"]
            assert "ready and waiting" in ask("rpcinfo", "-T", "tcp6", SIXTH, "100003", "3")
            assert "ready and waiting" in ask("rpcinfo", "-T", "udp6", SIXTH, "100005", "3")
            g = Guest(OVER_IPV6, options=["--no-mount", "--net", "tap:t0,fd00:1::2/64"])
            g.wait_for("END", 120)
            g.end()
            print("kernel client over IPv6:", next(l for _, l in g.lines if " /mnt nfs " in l).split()[3])
        finally:
            node.terminate()
            node.wait(20)


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


if __name__ == "__main__":
    own()
    beside_rpcbind()
    without()
