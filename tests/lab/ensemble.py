"""An ensemble of servers on 127.0.0.71 and up, each ours or Apache's, as processes of this machine."""
import logging, os, shutil, signal, socket, subprocess, tempfile, time

logging.getLogger("kazoo").setLevel(logging.CRITICAL)

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
TRIVET = os.environ.get("TRIVET_BIN", os.path.join(ROOT, "target/release/trivet"))
# A second ensemble beside the first has another base.
BASE = os.environ.get("TRIVET_LAB_BASE", "127.0.0.7")
HOSTS = {i: "%s%d" % (BASE, i) for i in range(1, 7)}
JARS = "/usr/share/java"


def apache_classpath():
    if os.environ.get("APACHE_CLASSPATH"):
        return os.environ["APACHE_CLASSPATH"]
    jar = os.path.join(JARS, "zookeeper.jar")
    if not os.path.exists(jar):
        raise SystemExit("Apache ZooKeeper is needed: apt-get install zookeeper")
    names = ("zookeeper", "zookeeper-jute", "slf4j-api", "slf4j-log4j12", "log4j-1.2")
    return ":".join(p for p in (os.path.join(JARS, n + ".jar") for n in names) if os.path.exists(p))


class Server:
    """kind: 'trivet'; 'apache'; or 'apache:CLASSPATH', for another release than the one that Debian has."""

    def __init__(self, number, kind, folder, members, observers, settings="", properties=None):
        self.properties, self.heap_mib = properties or {}, 256
        # Before the command, for what is to be done to the process from its start on.
        self.under = []
        self.number, self.kind, self.folder, self.process = number, kind, folder, None
        self.data = os.path.join(folder, "data")
        os.makedirs(self.data, exist_ok=True)
        with open(os.path.join(self.data, "myid"), "w") as f:
            f.write("%d\n" % number)
        with open(os.path.join(folder, "zoo.cfg"), "w") as f:
            f.write("tickTime=2000\ninitLimit=10\nsyncLimit=5\nmaxClientCnxns=0\n4lw.commands.whitelist=*\n"
                    "admin.enableServer=false\nextendedTypesEnabled=true\n"
                    "dataDir=%s\nclientPort=2181\nclientPortAddress=%s\n" % (self.data, HOSTS[number]))
            if number in observers:
                f.write("peerType=observer\n")
            f.write(settings)
            for i in members if len(members) > 1 else ():
                f.write("server.%d=%s:2888:3888%s\n" % (i, HOSTS[i], ":observer" if i in observers else ""))

    def start(self):
        cfg = os.path.join(self.folder, "zoo.cfg")
        if self.kind == "trivet":
            command = [TRIVET, "coordination", *("-D%s=%s" % p for p in self.properties.items()), cfg]
        else:
            command = ["java", "-Xmx%dm" % self.heap_mib, "-Dzookeeper.admin.enableServer=false", *("-D%s=%s" % p for p in self.properties.items()), "-cp", self.kind.partition(":")[2] or apache_classpath(),
                       "org.apache.zookeeper.server.quorum.QuorumPeerMain", cfg]
        log = open(os.path.join(self.folder, "log"), "ab")
        self.process = subprocess.Popen(self.under + command, stdout=log, stderr=log, cwd=self.folder)

    def kill(self, sig=signal.SIGKILL):
        if self.process:
            self.process.send_signal(sig)
            self.process.wait(30)
            self.process = None

    def word(self, word):
        try:
            with socket.create_connection((HOSTS[self.number], 2181), 1) as s:
                s.settimeout(1)
                s.sendall(word.encode())
                out = b""
                while True:
                    b = s.recv(65536)
                    if not b:
                        return out.decode()
                    out += b
        except OSError:
            return ""

    def mode(self):
        for line in self.word("srvr").splitlines():
            if line.startswith("Mode: "):
                return line[6:]
        return None


class Ensemble:
    """kinds: for each server, see there; observers: the numbers of those that do not vote."""

    def __init__(self, kinds, observers=(), settings="", properties=None):
        self.folder = tempfile.mkdtemp(prefix="trivet-lab.")
        self.servers = {i: Server(i, k, os.path.join(self.folder, "n%d" % i), list(kinds), observers, settings, properties) for i, k in kinds.items()}

    def __enter__(self):
        for s in self.servers.values():
            s.start()
        return self

    def __exit__(self, kind, *_):
        for s in self.servers.values():
            s.kill()
        if kind is None:
            shutil.rmtree(self.folder, ignore_errors=True)
        else:
            print("logs are kept in", self.folder)

    def hosts(self):
        return ",".join("%s:2181" % HOSTS[i] for i in self.servers)

    def leader(self, timeout=60):
        end = time.time() + timeout
        while time.time() < end:
            for s in self.servers.values():
                if s.process and s.mode() == "leader":
                    return s
            time.sleep(0.05)
        raise AssertionError("no leader within %d s" % timeout)

    def wait_all(self, timeout=60):
        end = time.time() + timeout
        while time.time() < end:
            modes = [s.mode() for s in self.servers.values()]
            if modes == ["standalone"] or all(m in ("leader", "follower", "observer") for m in modes) and modes.count("leader") == 1:
                return
            time.sleep(0.1)
        raise AssertionError("not all servers serve within %d s: %s" % (timeout, {n: s.mode() for n, s in self.servers.items()}))
