#!/usr/bin/env python3
"""TLS on the client port: a table of clients, servers, stores and modes, beside Apache; certificates that are wrong, too old, or of
strangers; new ones while the server runs; names in access lists."""
import os, re, shutil, socket, ssl, subprocess, sys, tempfile, time
from kazoo.client import KazooClient
from kazoo.exceptions import NoAuthError
from kazoo.security import make_acl
from certificates import Authority, PASSWORD, run, settings
from ensemble import Ensemble, HOSTS, JARS, Server, apache_classpath
import struct

SECURE = 2281
HOST = HOSTS[1]
NETTY = ":".join(os.path.join(JARS, "netty-%s.jar" % n) for n in ("buffer", "codec", "common", "handler", "resolver", "transport", "transport-native-epoll", "transport-native-unix-common"))
CLASSPATH = apache_classpath() + ":" + NETTY + ":" + ":".join(os.path.join(JARS, n + ".jar") for n in ("commons-cli", "jline", "audience-annotations"))
APACHE = "apache:" + CLASSPATH


class Folder:
    """A server by itself."""

    def __init__(self, kind, lines, properties=None):
        self.folder = tempfile.mkdtemp(prefix="trivet-lab.")
        properties = dict(properties or {})
        if kind != "trivet":
            properties["zookeeper.serverCnxnFactory"] = "org.apache.zookeeper.server.NettyServerCnxnFactory"
        self.server = Server(1, kind, self.folder, [1], [], lines, properties)

    def __enter__(self):
        self.server.start()
        end = time.time() + 60
        while self.server.mode() != "standalone":
            assert time.time() < end and self.server.process.poll() is None, self.log()
            time.sleep(0.05)
        return self

    def __exit__(self, kind, *_):
        self.server.kill()
        if kind is None:
            shutil.rmtree(self.folder, ignore_errors=True)
        else:
            print("logs are kept in", self.folder)

    def log(self):
        return open(os.path.join(self.folder, "log"), errors="replace").read()[-3000:]

    def refused(self):
        """Starts a server that must not start; what it says."""
        self.server.start()
        code = self.server.process.wait(60)
        text = self.log()
        self.server.process = None
        shutil.rmtree(self.folder, ignore_errors=True)
        assert code != 0, text
        return text


def context(authority, own):
    c = ssl.create_default_context(cafile=authority.pem)
    if own:
        c.load_cert_chain(own["cert"], own["key"])
    return c


def raw(port, authority, own):
    """Python's ssl: a four-letter word, and a session, over each version of TLS that both have."""
    said = []
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        c = context(authority, own)
        c.minimum_version = c.maximum_version = version
        try:
            with socket.create_connection((HOST, port), 10) as s, c.wrap_socket(s, server_hostname=HOST) as t:
                t.settimeout(10)
                t.sendall(b"ruok")
                assert t.recv(100) == b"imok"
            said.append(version.name[-1])
        except ssl.SSLError as e:
            if "PROTOCOL_VERSION" not in str(e).upper():
                raise
    assert said, "no version of TLS"
    return "1." + "+1.".join(said)


def kazoo(port, authority, own):
    zk = KazooClient("%s:%d" % (HOST, port), use_ssl=True, ca=authority.pem, certfile=own and own["cert"], keyfile=own and own["key"])
    zk.start(timeout=20)
    try:
        big = os.urandom(900_000)
        zk.create("/k", big)
        assert zk.get("/k")[0] == big
        zk.delete("/k")
    finally:
        zk.stop()
        zk.close()
    return "yes"


def zkcli(port, authority, own, kind):
    options = ["-Dzookeeper.clientCnxnSocket=org.apache.zookeeper.ClientCnxnSocketNetty", "-Dzookeeper.client.secure=true"]
    for line in settings("ssl.", own, authority, kind).splitlines():
        options.append("-Dzookeeper." + line)
    done = subprocess.run(["java", "-Xmx128m", *options, "-cp", CLASSPATH, "org.apache.zookeeper.ZooKeeperMain", "-server", "%s:%d" % (HOST, port), "ls", "/"],
                          capture_output=True, text=True, timeout=120)
    assert "[zookeeper]" in done.stdout, done.stdout[-1500:] + done.stderr[-1500:]
    return "yes"


def matrix(ca, server, client):
    rows = []
    for kind in ("trivet", APACHE):
        for store in ("pem", "p12", "jks"):
            for mode, port, lines in (("secureClientPort, need", SECURE, "secureClientPort=%d\nsecureClientPortAddress=%s\n" % (SECURE, HOST)),
                                      ("client.portUnification, none", 2181, "client.portUnification=true\nssl.clientAuth=none\n")):
                if kind != "trivet" and mode.endswith("none") and store != "pem":
                    continue
                properties = {} if kind == "trivet" else {"zookeeper.client.portUnification": "true"} if port == 2181 else {}
                with Folder(kind, lines + settings("ssl.", server, ca, store), properties):
                    own = client if port == SECURE else None
                    row = [kind.partition(":")[0], store, mode, raw(port, ca, own), kazoo(port, ca, own)]
                    # Every start of Java takes seconds.
                    row.append(zkcli(port, ca, client, store) if kind == "trivet" and port == SECURE else "-")
                    if port == 2181:
                        plain = KazooClient("%s:2181" % HOST)
                        plain.start(timeout=20)
                        plain.get_children("/")
                        plain.stop()
                    rows.append(row)
    print("%-7s %-5s %-29s %-9s %-6s %s" % ("server", "store", "mode", "ssl", "kazoo", "zkCli.sh"))
    for row in rows:
        print("%-7s %-5s %-29s %-9s %-6s %s" % tuple(row), flush=True)


def names_in_lists(ca, server, client):
    """The subject of a certificate is one and the same text at both servers, and opens what it closed."""
    seen = {}
    for kind in ("trivet", APACHE):
        with Folder(kind, "secureClientPort=%d\nsecureClientPortAddress=%s\nssl.clientAuth=want\n" % (SECURE, HOST) + settings("ssl.", server, ca, "pem")):
            zk = KazooClient("%s:%d" % (HOST, SECURE), use_ssl=True, ca=ca.pem, certfile=client["cert"], keyfile=client["key"])
            zk.start(timeout=20)
            zk.create("/mine", b"x", acl=[make_acl("auth", "", all=True)])
            seen[kind] = [str(a.id) for a in zk.get_acls("/mine")[0]]
            assert zk.get("/mine")[0] == b"x"
            zk.stop()
            other = KazooClient("%s:2181" % HOST)
            other.start(timeout=20)
            try:
                other.get("/mine")
                raise AssertionError("%s: a stranger reads it" % kind)
            except NoAuthError:
                pass
            other.stop()
    assert seen["trivet"] == seen[APACHE] and "x509" in seen["trivet"][0], seen
    print("names in access lists: the same as Apache's:", seen["trivet"][0], flush=True)


def refused_by(port, c):
    """The reason why a handshake, or what follows it, fails."""
    try:
        with socket.create_connection((HOST, port), 10) as s, c.wrap_socket(s, server_hostname=HOST) as t:
            t.settimeout(10)
            t.sendall(b"ruok")
            return None if t.recv(100) == b"imok" else "closed"
    except OSError as e:
        return str(e)


def strangers(ca, other, server, client):
    lines = "secureClientPort=%d\nsecureClientPortAddress=%s\nssl.handshakeDetectionTimeoutMillis=1000\nclient.certReload=true\n" % (SECURE, HOST)
    expired = ca.issue("expired", days="-1", stores=())
    foreign = other.issue("foreign", stores=())
    with Folder("trivet", lines + settings("ssl.", server, ca, "pem")) as f:
        assert refused_by(SECURE, context(ca, client)) is None
        for what, own in (("no certificate", None), ("another authority's", foreign), ("an expired one", expired)):
            reason = refused_by(SECURE, context(ca, own))
            assert reason, "%s was accepted" % what
            print("refused: a client with %s (%s)" % (what, reason[:60]), flush=True)
        with socket.create_connection((HOST, SECURE), 10) as s:
            s.settimeout(10)
            s.sendall(struct.pack(">iiqiqi16s", 44, 0, 0, 10_000, 0, 16, bytes(16)))
            assert s.recv(100)[:1] in (b"", b"\x15"), "a client without TLS was answered"
        silent = socket.create_connection((HOST, SECURE), 10)
        silent.settimeout(10)
        begun = time.time()
        assert silent.recv(1) == b"" and time.time() - begun < 8, "a silent caller stays"
        with socket.create_connection((HOST, 2181), 10) as s:
            s.settimeout(10)
            s.sendall(b"\x16\x03\x01\x02\x00" + bytes(512))
            assert s.recv(100) == b"", "a TLS hello on the plain port was answered"
        reload(f, ca, server, client)


def reload(f, ca, server, client):
    """New certificates for new connections; the old connection stays, and broken files change nothing."""
    c = context(ca, client)

    def serial():
        with socket.create_connection((HOST, SECURE), 10) as s, c.wrap_socket(s, server_hostname=HOST) as t:
            return t.getpeercert()["serialNumber"]
    before = serial()
    zk = KazooClient("%s:%d" % (HOST, SECURE), use_ssl=True, ca=ca.pem, certfile=client["cert"], keyfile=client["key"])
    zk.start(timeout=20)
    session = zk.client_id
    good = open(server["pem"]).read()
    with open(server["pem"], "w") as out:
        out.write("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n")
    end = time.time() + 20
    while "stay in use" not in f.log():
        assert time.time() < end, "the broken file was not noticed"
        time.sleep(0.2)
    assert serial() == before
    new = ca.issue("renewed", stores=())
    os.replace(new["pem"], server["pem"])
    while serial() == before:
        assert time.time() < end, "the new certificate is not in use"
        time.sleep(0.2)
    zk.get_children("/")
    assert zk.client_id == session
    zk.stop()
    with open(server["pem"], "w") as out:
        out.write(good)
    print("certificates were replaced under a session", flush=True)


def wrong_input(ca, server, other):
    def of(lines):
        return Folder("trivet", "secureClientPort=%d\nsecureClientPortAddress=%s\n" % (SECURE, HOST) + lines).refused()
    good = settings("ssl.", server, ca, "p12")
    broken = os.path.join(ca.folder, "broken.jks")
    with open(broken, "wb") as f:
        f.write(open(server["jks"], "rb").read()[:-30])
    mixed = os.path.join(ca.folder, "mixed.pem")
    with open(mixed, "w") as f:
        f.write(open(other["key"]).read() + open(server["cert"]).read())
    expired = ca.issue("expired-server", days="-1", stores=())
    for what, lines, expected in (
            ("no key store", "", "keyStore.location"),
            ("a file that is not there", good.replace(".p12", ".none.p12"), "cannot read"),
            ("a wrong password", good.replace("keyStore.password=" + PASSWORD, "keyStore.password=wrong"), "password is wrong"),
            ("a broken store", "ssl.keyStore.location=%s\nssl.keyStore.password=%s\n" % (broken, PASSWORD), "damaged"),
            ("a key of another certificate", "ssl.keyStore.location=%s\nssl.trustStore.location=%s\n" % (mixed, ca.pem), "do not belong together"),
            ("an expired certificate", "ssl.keyStore.location=%s\nssl.trustStore.location=%s\n" % (expired["pem"], ca.pem), "has expired"),
            ("no trust store", "ssl.keyStore.location=%s\n" % server["pem"], "trust store"),
            ("a BCFKS store", "ssl.keyStore.location=/x.bcfks\n", "keytool"),
            ("crl", good + "ssl.crl=true\n", "revocation"),
            ("ocsp", good + "ssl.ocsp=true\n", "revocation"),
            ("TLS 1.1 alone", good + "ssl.enabledProtocols=TLSv1.1\n", "TLSv1.2"),
            ("an unknown cipher suite", good + "ssl.ciphersuites=TLS_NONE\n", "cipher suites"),
            ("a wrong clientAuth", good + "ssl.clientAuth=maybe\n", "none, want and need")):
        text = of(lines)
        assert expected in text, "%s: %s" % (what, text)
    print("13 kinds of wrong settings stop the start, with their reason", flush=True)


def main():
    folder = tempfile.mkdtemp(prefix="trivet-lab.")
    ca, other = Authority(os.path.join(folder, "a")), Authority(os.path.join(folder, "b"), "other")
    server, client = ca.issue("server", rsa=True), ca.issue("client", subject="/C=DE/O=Lab \\, GmbH/OU=ops/CN=%s/emailAddress=a@b.c")
    checks = {"matrix": lambda: matrix(ca, server, client), "names": lambda: names_in_lists(ca, server, client),
              "strangers": lambda: strangers(ca, other, server, client), "wrong_input": lambda: wrong_input(ca, server, client)}
    for name in sys.argv[1:] or checks:
        checks[name]()
    shutil.rmtree(folder, ignore_errors=True)
    print("ok")


if __name__ == "__main__":
    main()
