#!/usr/bin/env python3
"""Kerberos on the client port, beside Apache, with a KDC of its own: ids in access lists by all settings, zkCli.sh and kazoo with tickets,
tokens that are forged, replayed or for another key, and settings that stop the start. Needs a binary built with --features kerberos."""
import os, subprocess, sys, tempfile, time
import gssapi
from kazoo.client import KazooClient
from ensemble import HOSTS
from tls import APACHE, CLASSPATH, Folder
from wire import Closed, Reader, Session, buf, create, s

HOST = HOSTS[1]
SERVICE = "zookeeper/%s@LAB" % HOST
PROVIDER = "org.apache.zookeeper.server.auth.SASLAuthenticationProvider"
MODULE = "com.sun.security.auth.module.Krb5LoginModule required useKeyTab=true storeKey=true useTicketCache=false"
LOGINS = 200


class Realm:
    """A KDC of the realm LAB on a loopback address, and keytabs."""

    def __init__(self, folder):
        self.folder = folder
        self.conf = self.write("krb5.conf", """[libdefaults]
default_realm = LAB
dns_lookup_kdc = false
dns_lookup_realm = false
dns_canonicalize_hostname = false
rdns = false
udp_preference_limit = 1
[realms]
LAB = {
  kdc = 127.0.0.60:8888
}
""")
        profile = self.write("kdc.conf", """[kdcdefaults]
kdc_listen = 127.0.0.60:8888
kdc_tcp_listen = 127.0.0.60:8888
[realms]
LAB = {
  database_name = %(f)s/principal
  key_stash_file = %(f)s/stash
  acl_file = %(f)s/acl
}
""" % {"f": folder})
        os.environ.update(KRB5_CONFIG=self.conf, KRB5_KDC_PROFILE=profile, KRB5RCACHEDIR=folder)
        self.run("kdb5_util", "create", "-s", "-r", "LAB", "-P", "master")
        for principal in (SERVICE, "bob", "admin", "hbase/h1.lab"):
            self.run("kadmin.local", "-r", "LAB", "addprinc", "-randkey", principal)
        self.keytab = self.keys("server.keytab", SERVICE)
        self.clients = self.keys("clients.keytab", "bob", "admin", "hbase/h1.lab")
        self.kdc = subprocess.Popen(["krb5kdc", "-n", "-r", "LAB"], stdout=open(os.path.join(folder, "kdc.log"), "wb"), stderr=subprocess.STDOUT)

    def write(self, name, text):
        path = os.path.join(self.folder, name)
        with open(path, "w") as f:
            f.write(text)
        return path

    def run(self, *command, **more):
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, **more)
        assert done.returncode == 0, (command, done.stdout, done.stderr)

    def keys(self, name, *principals):
        """A keytab with new keys, after which the ones before are no good any more."""
        path = os.path.join(self.folder, name)
        self.run("kadmin.local", "-r", "LAB", "ktadd", "-k", path, *principals)
        return path

    def ticket(self, principal):
        """A cache with the principal's ticket."""
        cache = os.path.join(self.folder, "cache." + principal.replace("/", "_"))
        end = time.time() + 20
        while True:
            try:
                self.run("kinit", "-k", "-t", self.clients, "-c", cache, principal)
                return cache
            except AssertionError:
                assert time.time() < end, open(os.path.join(self.folder, "kdc.log")).read()
                time.sleep(0.2)

    def jaas(self, keytab=None, principal=SERVICE, module=MODULE):
        return self.write("jaas.conf", 'Server { %s keyTab="%s" principal="%s"; };\nClient { %s keyTab="%s" principal="bob@LAB"; };\n'
                          % (module, keytab or self.keytab, principal, MODULE, self.clients))


def context(cache, flags=None):
    creds = gssapi.Credentials(usage="initiate", store={"ccache": "FILE:" + cache})
    name = gssapi.Name(SERVICE, gssapi.NameType.kerberos_principal)
    return gssapi.SecurityContext(name=name, creds=creds, usage="initiate", flags=flags)


def login(session, cache, authzid=b"", mutual=True, first=None):
    """Authenticates as RFC 4752 has it."""
    # Without any the library takes its own choice.
    flags = [gssapi.RequirementFlag.mutual_authentication if mutual else gssapi.RequirementFlag.integrity]
    ctx = context(cache, flags)
    token = ctx.step()
    code, answer = session.sasl(first or token)
    if code != 0:
        return code
    if mutual:
        ctx.step(answer)
        code, answer = session.sasl(b"")
    offer = ctx.unwrap(answer).message
    assert offer[0] & 1, offer
    code, answer = session.sasl(ctx.wrap(b"\x01\0\0\0" + authzid, False).message)
    assert code or answer is None, answer
    return code


class Client(Session):
    def sasl(self, token):
        xid = self.request("sasl", buf(token))
        r = Reader(self.frame())
        got, _, code = r.get("iqi")
        assert got == xid, (got, xid)
        return code, r.buffer() if r.rest() else None

    def ids(self, path):
        """The ids that `auth` stands for in an access list."""
        err, r = self.reply(self.request("create", create(path, b"", [(31, "auth", "")])))
        assert err == 0, err
        err, r = self.reply(self.request("get_acl", s(path)))
        return sorted((r.get("i"), r.text(), r.text())[1:] for _ in range(r.get("i")))


def server(kind, jaas, lines="", **more):
    properties = {"java.security.auth.login.config": jaas, "java.security.krb5.conf": os.environ["KRB5_CONFIG"], "zookeeper.authProvider.1": PROVIDER, "zookeeper.superUser": "admin@LAB"}
    properties.update(more)
    return Folder(kind, lines, properties)


def names(realm):
    """The same ids for the same principals, whatever the settings are."""
    caches = {p: realm.ticket(p) for p in ("bob", "hbase/h1.lab", "admin")}
    for host in ("false", "true"):
        for no_realm in ("false", "true"):
            found = {}
            for kind in ("trivet", APACHE):
                settings = {"zookeeper.kerberos.removeHostFromPrincipal": host, "zookeeper.kerberos.removeRealmFromPrincipal": no_realm}
                with server(kind, realm.jaas(), **settings):
                    ids = found[kind] = {}
                    for n, (principal, cache) in enumerate(caches.items()):
                        for mutual, authzid in ((True, b""), (False, b""), (True, b"admin@LAB")):
                            c = Client(HOST)
                            assert login(c, cache, authzid, mutual) == 0
                            ids[principal, mutual, authzid] = c.ids("/n%d%d%d" % (n, mutual, len(authzid)))
                            c.close()
            assert found["trivet"] == found[APACHE], "removeHost=%s removeRealm=%s:\n%s\n%s" % (host, no_realm, found["trivet"], found[APACHE])
            shown = {p: found["trivet"][p, True, b""] for p in caches}
            print("removeHost=%-5s removeRealm=%-5s %s" % (host, no_realm, shown), flush=True)


def clients(realm):
    """zkCli.sh and kazoo."""
    for kind in ("trivet", APACHE):
        with server(kind, realm.jaas(), **{"zookeeper.sessionRequireClientSASLAuth": "true"}):
            options = ["-Djava.security.auth.login.config=" + realm.jaas(), "-Djava.security.krb5.conf=" + realm.conf, "-Dzookeeper.server.principal=" + SERVICE]
            command = ["java", "-Xmx128m", *options, "-cp", CLASSPATH, "org.apache.zookeeper.ZooKeeperMain", "-server", HOST + ":2181"]
            for line in (["create", "/bob", "x", "sasl:bob@LAB:cdrwa"], ["get", "/bob"], ["getAcl", "/bob"]):
                done = subprocess.run(command + line, capture_output=True, text=True, timeout=120)
                assert done.returncode == 0, (kind, line, done.stdout[-2000:], done.stderr[-2000:])
            assert "'sasl,'bob@LAB" in done.stdout, done.stdout
            os.environ["KRB5CCNAME"] = "FILE:" + realm.ticket("bob")
            zk = KazooClient(HOST + ":2181", sasl_options={"mechanism": "GSSAPI", "principal": None})
            zk.start(timeout=20)
            assert zk.get("/bob")[0] == b"x"
            zk.stop()
            zk.close()
            zk = KazooClient(HOST + ":2181", connection_retry={"max_tries": 1})
            try:
                zk.start(timeout=10)
                zk.get_children("/")
                raise AssertionError("a client without a ticket is served by " + kind)
            except AssertionError:
                raise
            except Exception as e:
                said = type(e).__name__
            zk.stop()
            zk.close()
    print("zkCli.sh and kazoo work with tickets; without one: %s" % said, flush=True)


def outcome(cache, first=None, host=HOST):
    c = Client(host)
    try:
        return login(c, cache, first=first)
    except Closed:
        return "closed"
    finally:
        c.sock.close()


def refused(realm):
    """Tokens that are none, were used before, or are for another key."""
    cache = realm.ticket("bob")
    with server("trivet", realm.jaas()) as folder:
        used = bytes(context(cache, [gssapi.RequirementFlag.mutual_authentication]).step())
        c = Client(HOST)
        assert c.sasl(used)[0] == 0
        for what, token in (("replayed", used), ("forged", used[:-1] + bytes([used[-1] ^ 1])), ("cut", used[:40]), ("random", os.urandom(300)), ("long", os.urandom(200_000))):
            code = outcome(cache, token)
            assert code == -115, (what, code)
        assert outcome(cache) == 0
        begun = time.time()
        for n in range(LOGINS):
            assert outcome(cache) == 0
        took = time.time() - begun
        assert "Kerberos:" in folder.log(), folder.log()
        print("%d clients one after the other with tickets: %.1f ms each" % (LOGINS, took * 1000 / LOGINS), flush=True)
        # Other clients are served meanwhile, and a client that says nothing more keeps nobody waiting.
        half = Client(HOST)
        half.sasl(bytes(context(cache, [gssapi.RequirementFlag.mutual_authentication]).step()))
        assert outcome(cache) == 0
    with server("trivet", realm.jaas(), **{"zookeeper.allowSaslFailedClients": "true"}):
        c = Client(HOST)
        assert c.sasl(b"forged") == (0, None)
        assert c.reply(c.request("exists", s("/") + b"\0"))[0] == 0
    with server("trivet", realm.jaas(), **{"zookeeper.sessionRequireClientSASLAuth": "true"}):
        assert outcome(cache, b"forged") == -124
        assert outcome(cache) == 0
    # A new key at the KDC: the server's old keytab is no good for new tickets.
    newer = realm.keys("newer.keytab", SERVICE)
    os.remove(cache)
    cache = realm.ticket("bob")
    with server("trivet", realm.jaas()):
        assert outcome(cache) == -115
    with server("trivet", realm.jaas(newer)):
        assert outcome(cache) == 0
    print("replayed, forged and cut tokens, and tickets for another key: refused")


def wrong_settings(realm):
    """Each stops the start with its reason."""
    for jaas, lines, reason in (
            (dict(keytab="/nowhere/zk.keytab"), "", "/nowhere/zk.keytab cannot be read"),
            (dict(keytab=realm.conf), "", "has no key of " + SERVICE),
            (dict(principal="zookeeper/elsewhere@LAB"), "", "has no key of zookeeper/elsewhere@LAB"),
            (dict(principal="*"), "", "names no principal"),
            (dict(module=MODULE.replace("storeKey=true", "")), "", "storeKey=true"),
            (dict(), "security.auth_to_local=RULE:[1:$1]\n", "rules for names are not supported"),
            (dict(), "quorum.auth.enableSasl=true\nquorum.auth.learner.saslLoginContext=Server\nquorum.auth.server.saslLoginContext=Server\n", "not supported between servers")):
        said = server("trivet", realm.jaas(**jaas), lines).refused()
        assert reason in said, (reason, said)
    print("7 kinds of wrong settings stop the start, with their reason")


def main():
    realm = Realm(tempfile.mkdtemp(prefix="trivet-lab."))
    try:
        realm.ticket("bob")
        wrong_settings(realm)
        names(realm)
        clients(realm)
        refused(realm)
    finally:
        realm.kdc.kill()
        realm.kdc.wait(10)
    print("ok")


if __name__ == "__main__":
    sys.exit(main())
