#!/usr/bin/env python3
"""SASL DIGEST-MD5 between servers, with an Apache 3.8.0 server among them: an ensemble changes over server by server under
writes, leads change between the kinds, and a server with a wrong password, or none, stays out."""
import os
from ensemble import Ensemble, HOSTS
from reconfig import Writer, wait

MODULE = "org.apache.zookeeper.server.auth.DigestLoginModule required"
STEPS = ["quorum.auth.enableSasl=true\n", "quorum.auth.learnerRequireSasl=true\n", "quorum.auth.serverRequireSasl=true\n"]


def jaas(folder, password):
    path = os.path.join(folder, "jaas.conf")
    with open(path, "w") as f:
        f.write('QuorumServer { %s user_peer="right"; };\nQuorumLearner { %s username="peer" password="%s"; };\n' % (MODULE, MODULE, password))
    return path


def configure(server, steps, password="right"):
    """Writes the server's files anew with the first steps of the change."""
    path = os.path.join(server.folder, "zoo.cfg")
    with open(path) as f:
        rest = [l for l in f if not l.startswith("quorum.auth")]
    with open(path, "w") as f:
        f.writelines(rest + STEPS[:steps])
    # 3.9 has no DIGEST-MD5 unless FIPS mode is off.
    server.properties = {"java.security.auth.login.config": jaas(server.folder, password), "zookeeper.fips-mode": "false"} if steps else {}


def roll(e, steps):
    for n in sorted(e.servers, key=lambda n: e.servers[n].mode() == "leader"):
        s = e.servers[n]
        s.kill(15)
        configure(s, steps)
        s.start()
        e.wait_all(90)


def main():
    with Ensemble({1: "trivet", 2: "apache", 3: "trivet"}) as e:
        e.wait_all(90)
        w = Writer(e.hosts())
        w.start()
        for steps in (1, 2, 3):
            before = w.value
            roll(e, steps)
            wait("writes go on", lambda: w.value > before + 20)
            print("step %d of 3 on all servers: %d writes, longest pause %.1f s" % (steps, w.value, w.longest))
        led = set()
        for _ in range(4):
            leader = e.leader()
            led.add(leader.kind)
            leader.kill()
            e.leader()
            leader.start()
            e.wait_all(90)
        assert led == {"apache", "trivet"}, "both kinds have to lead here, only %s did" % led
        print("led with SASL: %s" % sorted(led))
        # Servers with wrong credentials stay out: ours with a wrong password and without SASL, and Apache's with a wrong one.
        for n, steps, password in ((1, 3, "wrong"), (1, 0, ""), (2, 3, "wrong")):
            s = e.servers[n]
            s.kill()
            configure(s, steps, password)
            before = w.value
            s.start()
            wait("the others write", lambda: w.value > before + 50, 60)
            assert s.mode() not in ("leader", "follower"), "a server that cannot authenticate takes part"
            s.kill()
            configure(s, 3)
            s.start()
            e.wait_all(90)
            print("server %d (%s) %s stayed out, and came in again" % (n, s.kind, "with a wrong password" if steps else "without SASL"))
        w.end = True


main()
