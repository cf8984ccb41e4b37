#!/usr/bin/env python3
"""The package on three machines with a real systemd (systemd-nspawn): installed, joined, started, a file written by NFS, killed,
frozen, upgraded, removed, purged. `cargo xtask dist` makes the package.

Each machine is this system's files under a layer of its own, in a network namespace of its own on one bridge. Nothing of what
runs here runs there: all of this system's own units are masked."""
import glob, os, re, shutil, signal, subprocess, sys, tempfile, time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
sys.path.insert(0, os.path.join(HERE, "night"))
from lablib import Lab, own_name, sh  # noqa: E402

PATIENCE_S = 90
VIRTUAL_IP = "10.0.10.200"
# The greatest exposure of the unit that is accepted, as systemd-analyze computes it.
EXPOSURE_MAX = 2.5
KEPT = {"dbus.service", "systemd-journald.service", "systemd-tmpfiles-setup.service", "systemd-sysusers.service"}


def until(what, condition, patience=PATIENCE_S):
    end = time.monotonic() + patience
    while time.monotonic() < end:
        found = condition()
        if found:
            return found
        time.sleep(0.2)
    raise AssertionError("not within %d s: %s" % (patience, what))


class Machine:
    def __init__(self, lab, number, folder):
        self.lab, self.number, self.folder, self.process, self.init = lab, number, os.path.join(folder, "m%d" % number), None, None
        self.root = os.path.join(self.folder, "root")

    def boot(self):
        for name in ("up", "work", "root"):
            os.makedirs(os.path.join(self.folder, name))
        units = os.path.join(self.folder, "up/etc/systemd/system")
        os.makedirs(units)
        for wants in glob.glob("/etc/systemd/system/*.wants/*") + glob.glob("/lib/systemd/system/multi-user.target.wants/*"):
            name = os.path.basename(wants)
            if name not in KEPT and name.endswith((".service", ".socket", ".timer")) and not os.path.lexists(os.path.join(units, name)):
                os.symlink("/dev/null", os.path.join(units, name))
        with open(os.path.join(self.folder, "up/etc/hostname"), "w") as f:
            f.write("host%d\n" % self.number)
        # A folder of another file system is no part of the layer below.
        subprocess.check_call(["mount", "-t", "overlay", "overlay", "-o", "lowerdir=/,upperdir=%s/up,workdir=%s/work" % (self.folder, self.folder), self.root])
        log = open(os.path.join(self.folder, "console"), "wb")
        self.process = subprocess.Popen(
            ["systemd-nspawn", "-b", "-D", self.root, "--register=no", "--keep-unit", "--console=pipe", "--quiet", "--machine=host%d" % self.number,
             "--network-namespace-path=/run/netns/%s" % self.lab.ns(self.number), "--capability=CAP_NET_ADMIN,CAP_NET_RAW,CAP_SYS_NICE",
             ], stdin=subprocess.DEVNULL, stdout=log, stderr=log, preexec_fn=self.in_its_own_groups)
        self.init = until("machine %d has an init" % self.number, self.leader)
        # As udev makes it on a host.
        self.must("sh", "-c", "mkdir -p /dev/net && rm -f /dev/net/tun && mknod /dev/net/tun c 10 200 && chmod 0666 /dev/net/tun")
        until("machine %d is up" % self.number, lambda: self.run("systemctl", "is-system-running").stdout.strip() in ("running", "degraded"))

    def groups(self):
        """Control groups of this machine alone: in those of another one its systemd would meet processes that it does not see."""
        bases = ("/sys/fs/cgroup", "/sys/fs/cgroup/systemd", "/sys/fs/cgroup/unified")
        return [os.path.join(b, "%s-%d" % (self.lab.name, self.number)) for b in bases if os.path.exists(b + "/cgroup.procs")]

    def in_its_own_groups(self):
        for group in self.groups():
            os.makedirs(group, exist_ok=True)
            with open(group + "/cgroup.procs", "w") as f:
                f.write("0" if group.startswith("/sys/fs/cgroup/unified") else str(os.getpid()))

    def leader(self):
        children = "/proc/%d/task/%d/children" % (self.process.pid, self.process.pid)
        for pid in open(children).read().split() if os.path.exists(children) else ():
            if open("/proc/%s/comm" % pid).read().strip() == "systemd":
                return pid
        return None

    def run(self, *command, patience=PATIENCE_S):
        inside = ["nsenter", "-t", self.init, "-m", "-u", "-i", "-n", "-p", "-C", "--"]
        return subprocess.run(inside + list(command), capture_output=True, text=True, timeout=patience, stdin=subprocess.DEVNULL)

    def must(self, *command, **more):
        r = self.run(*command, **more)
        assert r.returncode == 0, "host%d: %s: %s%s" % (self.number, " ".join(command), r.stdout, r.stderr)
        return r.stdout

    def property(self, name):
        return self.must("systemctl", "show", "--value", "-p", name, "trivet").strip()

    def serves(self):
        r = self.run("python3", "-c", "import urllib.request; print(urllib.request.urlopen('http://%s:8088/readyz', timeout=5).status)" % self.lab.ip(self.number))
        return r.stdout.strip() == "200"

    def end(self):
        # Its init is the first of its processes: with it all of them end. Without systemd-nspawn they would go on.
        if self.init:
            try:
                os.kill(int(self.init), signal.SIGKILL)
            except ProcessLookupError:
                pass
        if self.process:
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        subprocess.call(["umount", "-l", self.root])
        for group in self.groups():
            for folder, _, _ in os.walk(group, topdown=False):
                try:
                    os.rmdir(folder)
                except OSError:
                    pass


def step(text, since):
    print("%s: %.1f s" % (text, time.monotonic() - since), flush=True)
    return time.monotonic()


def install(machines, package):
    for m in machines:
        # Write through the mounted overlay: its upper layer has no /root before something is written there.
        shutil.copy(package, os.path.join(m.root, "root"))
        inside = "/root/" + os.path.basename(package)
        m.must("dpkg", "-i", inside)
        assert m.must("id", "-u", "trivet").strip().isdigit()
        assert m.run("systemctl", "is-enabled", "trivet").stdout.strip() == "disabled", "the package enables nothing"
        assert m.run("systemctl", "is-active", "trivet").stdout.strip() == "inactive", "the package starts nothing"
        assert m.must("dpkg", "-V", "trivet") == "", "the files are as the package has them"
    return inside


def exposure(m):
    said = m.must("systemd-analyze", "security", "--no-pager", "trivet.service")
    found = re.search(r"Overall exposure level for trivet.service: ([\d.]+)", said)
    assert found and float(found.group(1)) <= EXPOSURE_MAX, said[-400:]
    return found.group(1)


def join(machines, lab):
    nodes = ",".join("%d=%s" % (m.number, lab.ip(m.number)) for m in machines)
    first = machines[0]
    first.must("trivet", "init", "--nodes", nodes, "--datastore-addresses", VIRTUAL_IP)
    for m in machines[1:]:
        first.must("sh", "-c", "trivet invite --node %d > /tmp/invitation 2>&1 &" % m.number)
        token = until("a token", lambda: re.search(r"trivet join (\S+)", first.run("cat", "/tmp/invitation").stdout))
        m.must("trivet", "join", token.group(1))
    for m in machines:
        assert m.must("stat", "-c", "%U %a", "/etc/trivet/cluster.key").split()[1][-1] == "0", "nobody else reads the key"
        m.must("systemctl", "enable", "--now", "trivet", patience=2 * PATIENCE_S)
    for m in machines:
        until("host%d is ready" % m.number, m.serves)
        assert m.property("User") == "trivet"


def datastore(machines, lab):
    first = machines[0]
    first.must("trivet", "datastore", "create", "ds1", "--copies", "2", "--data", "/etc/trivet/node.toml")
    listed = first.must("trivet", "datastore", "list", "--data", "/etc/trivet/node.toml")
    assert "ds1" in listed, listed
    # From the network of the hypervisors.
    program = "import sys; sys.path.insert(0, %r); import systemd; systemd.write_and_read()" % HERE
    r = subprocess.run(["ip", "netns", "exec", lab.ns(0), sys.executable, "-c", program], capture_output=True, text=True, timeout=2 * PATIENCE_S)
    assert r.returncode == 0, r.stderr[-1000:]


def write_and_read():
    """The steps of a hypervisor: it mounts by the virtual IP, writes a file, and reads it."""
    from nfs_client import Client
    client = Client(VIRTUAL_IP)
    handle = client.create(b"disk.img")
    data = os.urandom(64 << 10)
    client.write(handle, [(0, data)])
    assert client.read(handle, 0, len(data)) == data


def killed(m):
    pid = m.property("MainPID")
    m.must("systemctl", "kill", "-s", "KILL", "trivet")
    until("host%d has another process" % m.number, lambda: m.property("MainPID") not in ("0", pid))
    until("host%d is ready again" % m.number, m.serves)
    assert int(m.property("NRestarts")) >= 1


def frozen(m):
    """A process that stands still is ended by the watchdog, without waiting for it to end by itself."""
    pid = m.property("MainPID")
    m.must("systemctl", "kill", "-s", "STOP", "trivet")
    until("host%d has another process" % m.number, lambda: m.property("MainPID") not in ("0", pid))
    until("host%d is ready again" % m.number, m.serves)
    told = m.must("journalctl", "-u", "trivet", "--no-pager", "-o", "cat")
    assert "atchdog" in told, told[-500:]


def upgraded(m, inside):
    pid = m.property("MainPID")
    said = m.run("dpkg", "-i", inside)
    assert said.returncode == 0, said.stderr
    assert m.property("MainPID") == pid, "an upgrade restarts nothing"
    assert "restart it when the cluster is OK" in said.stderr, said.stderr
    m.must("systemctl", "restart", "trivet", patience=2 * PATIENCE_S)
    until("host%d is ready again" % m.number, m.serves)


def purged(m):
    m.must("dpkg", "--remove", "trivet")
    assert m.run("systemctl", "is-active", "trivet").stdout.strip() == "inactive"
    assert m.run("test", "-e", "/etc/trivet/node.toml").returncode == 0, "removal keeps the configuration"
    said = m.run("dpkg", "--purge", "trivet")
    assert said.returncode == 0 and "/var/lib/trivet was left" in said.stderr, said.stderr
    assert m.run("test", "-e", "/etc/trivet").returncode == 1, "purge removes the configuration"
    assert m.must("ls", "/var/lib/trivet").strip(), "what may be the last copy stays"


def main():
    found = glob.glob(os.path.join(ROOT, "target/dist/trivet_*.deb"))
    if not found:
        raise SystemExit("no package: `cargo xtask dist` makes it")
    if os.path.realpath("/sys/fs/cgroup") != "/sys/fs/cgroup" or not os.path.exists("/sys/fs/cgroup"):
        raise SystemExit("systemd-nspawn needs /sys/fs/cgroup")
    begun = time.monotonic()
    for package in glob.glob(os.path.join(ROOT, "target/dist/trivet*.deb")):
        # A package of debug information may hold nothing else, and so has no overrides of its own.
        suppressed = ["--suppress-tags", "bogus-mail-host"] if "-dbgsym_" in package else []
        judged = subprocess.run(["lintian", "--fail-on", "error,warning", *suppressed, package], capture_output=True, text=True)
        assert judged.returncode == 0, judged.stdout
    begun = step("lintian", begun)
    # On the file system of /: an overlay's upper layer may be anywhere, but not on another overlay.
    with tempfile.TemporaryDirectory(prefix="trivet-machines.", dir="/var/tmp") as folder:
        lab = Lab(own_name("s"), folder)
        lab.up(3)
        machines = [Machine(lab, i, folder) for i in lab.ids()]
        try:
            for m in machines:
                m.boot()
            at = step("three machines booted", begun)
            inside = install(machines, found[0])
            at = step("package installed on three", at)
            join(machines, lab)
            at = step("init, two joined, all serve; exposure %s" % exposure(machines[0]), at)
            datastore(machines, lab)
            at = step("a datastore", at)
            killed(machines[1])
            at = step("killed: started again", at)
            frozen(machines[2])
            at = step("frozen: ended by the watchdog, started again", at)
            upgraded(machines[1], inside)
            at = step("upgrade: restarted by its operator only", at)
            purged(machines[2])
            at = step("removed and purged: the data is left", at)
        except BaseException:
            for m in machines:
                if m.process:
                    print("-- host%d\n%s" % (m.number, m.run("journalctl", "-u", "trivet", "--no-pager", "-n", "25", "-o", "cat").stdout[-3000:]))
            raise
        finally:
            for m in machines:
                m.end()
            lab.down()


if __name__ == "__main__":
    main()
