#!/usr/bin/env python3
"""kazoo's own tests against three servers of ours. Which of them do not pass is compared with kazoo_differences.txt,
where each has its reason; --write writes that list anew, with the reasons that it had."""
import argparse, json, os, pkgutil, subprocess, sys, tempfile
import pytest
import kazoo.testing.harness
from certificates import Authority, settings
from ensemble import Ensemble, HOSTS

HERE = os.path.dirname(os.path.abspath(__file__))
LIST = os.path.join(HERE, "kazoo_differences.txt")
PORT, SECURE_PORT = 2181, 2281
# The users of kazoo's tests of SASL.
JAAS = """Server {
    org.apache.zookeeper.server.auth.DigestLoginModule required user_super="super_secret" user_jaasuser="jaas_password";
};
"""
PROVIDER = "org.apache.zookeeper.server.auth.SASLAuthenticationProvider"
# The password of the super user is "test".
SETTINGS = ("DigestAuthenticationProvider.superDigest=super:D/InIHSb7yEEbrWz8b9l71RjZJU=\n"
            "readonlymode.enabled=true\nreconfigEnabled=true\n")


class Member:
    def __init__(self, server):
        self.server = server
        self.address, self.secure_address = ("%s:%d" % (HOSTS[server.number], port) for port in (PORT, SECURE_PORT))
        self.client_port = PORT

    @property
    def running(self):
        return self.server.process is not None

    def run(self):
        if not self.running:
            self.server.start()

    def stop(self):
        self.server.kill()

    def reset(self):
        pass

    def destroy(self):
        pass

    def get_logs(self, num_lines=100):
        with open(self.server.folder + "/log", errors="replace") as f:
            return f.readlines()[-num_lines:]


class Cluster(list):
    """Three servers, whose certificates an authority signed; without one they speak no TLS."""

    def __init__(self, members, authority):
        super().__init__(members)
        own = authority and authority.issue("client", stores=())
        self.client_files = own and {"ca_cert": authority.pem, "client_cert": own["cert"], "client_key": own["key"]}

    def start(self):
        for m in self:
            m.run()

    def stop(self):
        pass

    terminate = reset = stop

    def get_logs(self):
        return []

    def get_ssl_client_configuration(self):
        if not self.client_files:
            pytest.skip("these servers speak no TLS")
        return {name: open(path, "rb").read() for name, path in self.client_files.items()}


class Results:
    def __init__(self):
        self.outcome = {}

    def pytest_runtest_logreport(self, report):
        name = os.path.basename(report.location[0]) + "::" + report.nodeid.split("::", 1)[1]
        if report.when == "call" or report.outcome != "passed":
            before = self.outcome.get(name)
            if before != "failed":
                self.outcome[name] = report.outcome


def parts():
    """kazoo's test modules, a third of the time in each list."""
    import kazoo.tests
    first, second = ["test_client"], ["test_eventlet_handler", "test_lock", "test_queue"]
    names = sorted(m.name for m in pkgutil.iter_modules(kazoo.tests.__path__) if m.name.startswith("test_"))
    third = [n for n in names if n not in first + second]
    return [["kazoo.tests." + n for n in part] for part in (first, second, third)]


def read_list():
    if not os.path.exists(LIST):
        return {}
    lines = [l.rstrip("\n") for l in open(LIST) if l.strip() and not l.startswith("#")]
    return {l.split("  ")[1]: l for l in lines}


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--write", action="store_true")
    ap.add_argument("--kind", default="trivet", choices=["trivet", "apache"])
    ap.add_argument("--json", action="store_true", help="print the outcome of each test")
    ap.add_argument("tests", nargs="*", help="pytest's arguments, instead of all tests")
    a = ap.parse_args()
    os.environ["ZOOKEEPER_VERSION"] = "3.9.5"
    # A test looks at the environment of kazoo's own CI, where this is set as well.
    os.environ.pop("CI", None)
    jaas = tempfile.NamedTemporaryFile("w", prefix="trivet-jaas.", suffix=".conf")
    jaas.write(JAAS)
    jaas.flush()
    properties = {"zookeeper.fips-mode": "false", "java.security.auth.login.config": jaas.name, "zookeeper.authProvider.1": PROVIDER}
    ensemble = Ensemble({i: a.kind for i in (1, 2, 3)}, properties=properties)
    # Debian's Apache server lacks the classes of its TLS for clients.
    authority = Authority(os.path.join(ensemble.folder, "tls")) if a.kind == "trivet" else None
    own = authority and authority.issue("server", stores=())
    for n, s in ensemble.servers.items():
        secure = "secureClientPort=%d\nsecureClientPortAddress=%s\n" % (SECURE_PORT, HOSTS[n]) + settings("ssl.", own, authority, "pem") if own else ""
        with open(s.folder + "/zoo.cfg", "a") as f:
            f.write(SETTINGS + secure)
    if not a.tests:
        # Most of it is waiting: three parts, each with servers of its own.
        here = os.path.abspath(__file__)
        started = [subprocess.Popen([sys.executable, here, "--json", "--kind", a.kind, *part], stdout=subprocess.PIPE, text=True, env=dict(os.environ, TRIVET_LAB_BASE=base))
                   for part, base in zip(parts(), ("127.0.0.7", "127.0.1.7", "127.0.2.7"))]
        outcome = {}
        for p in started:
            outcome.update(json.loads(p.communicate()[0].strip().splitlines()[-1]))
    else:
        with ensemble as e:
            e.wait_all()
            cluster = Cluster((Member(s) for s in e.servers.values()), authority)
            kazoo.testing.harness.get_global_cluster = lambda: cluster
            results = Results()
            pytest.main(["-q", "--no-header", "--tb=short", "-p", "no:cacheprovider", "--timeout=120", "--pyargs"] + a.tests, plugins=[results])
        outcome = results.outcome
        if a.json:
            print("\n" + json.dumps(outcome))
            return 0
    got = {n: o for n, o in outcome.items() if o != "passed"}
    print("%d passed, %d failed, %d skipped" % tuple(sum(o == x for o in outcome.values()) for x in ("passed", "failed", "skipped")))
    if a.tests:
        return 0
    listed = read_list()
    if a.write:
        head = [l for l in open(LIST) if l.startswith("#")] if os.path.exists(LIST) else []
        with open(LIST, "w") as f:
            f.writelines(head)
            for n in sorted(got):
                reason = listed[n].split("  ", 2)[2] if n in listed and len(listed[n].split("  ", 2)) > 2 else "?"
                f.write("%s  %s  %s\n" % (got[n], n, reason))
        return 0
    wrong = ["%s: %s, and the list says nothing of it" % (n, o) for n, o in sorted(got.items()) if n not in listed]
    wrong += ["%s passes, and the list says that it does not" % n for n in sorted(listed) if n not in got and "may pass" not in listed[n]]
    print("\n".join(wrong))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
