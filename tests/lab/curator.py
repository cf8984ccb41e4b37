#!/usr/bin/env python3
"""Curator's CuratorCache, which lives on persistent recursive watches, and its lock: the same events from three servers of
ours and from an Apache server."""
import os, subprocess, sys, time
from ensemble import Ensemble

HERE = os.path.dirname(os.path.abspath(__file__))
JARS = ["curator-framework", "curator-client", "curator-recipes", "zookeeper", "zookeeper-jute", "slf4j-api", "slf4j-nop", "guava"]
WANTED = ["NODE_CHANGED /cache top again", "NODE_CHANGED /cache/a/b/c 4", "NODE_CREATED /cache top", "NODE_CREATED /cache/a 1",
          "NODE_CREATED /cache/a/b 2", "NODE_CREATED /cache/a/b/c 3", "NODE_CREATED /cache/end", "NODE_DELETED /cache/a/b/c"]


def heard(kinds):
    classpath = ":".join("/usr/share/java/%s.jar" % j for j in JARS)
    with Ensemble(kinds) as e:
        for server in e.servers.values():
            end = time.time() + 60
            while server.mode() is None:
                assert time.time() < end, "a server does not serve"
                time.sleep(0.05)
        r = subprocess.run(["java", "-cp", classpath, os.path.join(HERE, "curator/Cache.java"), e.hosts()], capture_output=True, text=True, timeout=120)
    if r.returncode:
        raise SystemExit("Curator against %s: %s" % (kinds, (r.stdout + r.stderr)[-1500:]))
    return [l[6:].strip() for l in r.stdout.splitlines() if l.startswith("HEARD ")]


def main():
    ours, theirs = heard({1: "trivet", 2: "trivet", 3: "trivet"}), heard({1: "apache"})
    if ours != theirs or ours != WANTED:
        raise SystemExit("ours: %s\nApache's: %s\nwanted: %s" % (ours, theirs, WANTED))
    print("Curator hears the same %d events from ours and from Apache's" % len(ours))


if __name__ == "__main__":
    sys.exit(main())
