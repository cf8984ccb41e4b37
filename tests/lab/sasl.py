#!/usr/bin/env python3
"""SASL DIGEST-MD5 on the client port, beside Apache: users of a JAAS file, wrong passwords, clients that have to authenticate and do
not, access lists, super users; kazoo and zkCli.sh as clients."""
import os, subprocess, sys, tempfile
from kazoo.client import KazooClient
from kazoo.exceptions import NoAuthError
from kazoo.security import make_acl
from ensemble import HOSTS
from tls import APACHE, CLASSPATH, Folder

PROVIDER = "org.apache.zookeeper.server.auth.SASLAuthenticationProvider"
HOST = HOSTS[1] + ":2181"
JAAS = """// users of the lab
Server {
  org.apache.zookeeper.server.auth.DigestLoginModule required
  user_bob="bob, \\"secret\\""
  user_admin=adminsecret;
};
Client { org.apache.zookeeper.server.auth.DigestLoginModule required username="bob" password="bob, \\"secret\\""; };
"""


def client(user=None, password=None):
    options = {"mechanism": "DIGEST-MD5", "username": user, "password": password} if user else None
    zk = KazooClient(HOST, sasl_options=options, connection_retry={"max_tries": 1})
    zk.start(timeout=20)
    return zk


def fails(user, password):
    """The fate of a client with these credentials: the state that kazoo reports, and whether it is served."""
    try:
        zk = client(user, password)
    except Exception as e:
        return type(e).__name__
    # (kazoo counts as connected before SASL is through.)
    try:
        zk.create("/served-%s" % user, b"", makepath=True)
        return "served"
    except Exception as e:
        return type(e).__name__
    finally:
        zk.stop()
        zk.close()


def lists(out):
    """The permissions of each user, by name."""
    bob = client("bob", 'bob, "secret"')
    bob.create("/bob", b"x", acl=[make_acl("sasl", "bob", all=True)])
    bob.create("/mine", b"x", acl=[make_acl("auth", "", all=True)])
    out["acl"] = [[(a.id.scheme, a.id.id) for a in bob.get_acls(p)[0]] for p in ("/bob", "/mine")]
    assert bob.get("/bob")[0] == b"x"
    anyone = client()
    for path in ("/bob", "/mine"):
        try:
            anyone.get(path)
            raise AssertionError("anybody reads " + path)
        except NoAuthError:
            pass
    admin = client("admin", "adminsecret")
    out["super"] = admin.get("/bob")[0]
    for zk in (bob, anyone, admin):
        zk.stop()


def zkcli(out, folder):
    # Clients of 3.9 refuse DIGEST-MD5 unless they are told otherwise.
    options = ["-Dzookeeper.fips-mode=false", "-Djava.security.auth.login.config=" + os.path.join(folder, "jaas.conf")]
    done = subprocess.run(["java", "-Xmx128m", *options, "-cp", CLASSPATH, "org.apache.zookeeper.ZooKeeperMain", "-server", HOST, "get", "/bob"],
                          capture_output=True, text=True, timeout=120)
    out["zkCli"] = "\nx" in done.stdout
    assert out["zkCli"], done.stdout[-1500:] + done.stderr[-1500:]


def required(out):
    out["without"] = fails(None, None)
    zk = client("bob", 'bob, "secret"')
    assert "zookeeper" in zk.get_children("/")
    zk.stop()


def main():
    folder = tempfile.mkdtemp(prefix="trivet-lab.")
    jaas = os.path.join(folder, "jaas.conf")
    with open(jaas, "w") as f:
        f.write(JAAS)
    rows = {}
    for kind in ("trivet", APACHE):
        row = rows[kind.partition(":")[0]] = {}
        properties = {"zookeeper.fips-mode": "false", "java.security.auth.login.config": jaas, "zookeeper.superUser": "admin", "zookeeper.authProvider.1": PROVIDER}
        with Folder(kind, "", properties):
            lists(row)
            row["wrong password"] = fails("bob", "wrong")
            row["unknown user"] = fails("eve", "wrong")
            zkcli(row, folder)
        with Folder(kind, "", {**properties, "zookeeper.sessionRequireClientSASLAuth": "true"}):
            required(row)
    for key in rows["trivet"]:
        print("%-16s %-40s %s" % (key, rows["trivet"][key], rows["apache"][key]), flush=True)
    for key in ("acl", "super", "zkCli"):
        assert rows["trivet"][key] == rows["apache"][key], (key, rows)
    for key in ("wrong password", "unknown user", "without"):
        assert "served" not in (rows["trivet"][key], rows["apache"][key]), rows
    print("ok")


if __name__ == "__main__":
    sys.exit(main())
