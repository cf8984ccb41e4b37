#!/usr/bin/env python3
"""Orders of administrators are written down by the node that judged them, and any node shows those of all: who, from where,
what, with what outcome; refused ones as well; nothing of what only asks; and which nodes could not be asked."""
import json, os, subprocess
from cluster import Cluster, TRIVET


def trivet(c, *arguments, ok=True):
    environment = dict(os.environ, SUDO_USER="ann")
    done = subprocess.run([TRIVET, *arguments, "--data", c.data], capture_output=True, text=True, timeout=60, env=environment)
    assert (done.returncode == 0) == ok, (arguments, done.returncode, done.stdout, done.stderr)
    return done.stdout


def orders(c):
    return json.loads(trivet(c, "audit", "--json"))


with Cluster("--restart", "never") as c:
    trivet(c, "datastore", "create", "ds9", "--copies", "2")
    trivet(c, "datastore", "create", "ds9", "--copies", "2", ok=False)
    trivet(c, "datastore", "list")
    trivet(c, "node", "maintenance", "on", "2")
    trivet(c, "node", "maintenance", "off", "2")
    trivet(c, "silence", "add", "--node", "3", "--hours", "1", "--comment", "audit lab")
    document = orders(c)
    assert document["schema"] == "trivet.audit/1" and document["silent"] == [], document
    mine = [o for o in reversed(document["orders"]) if o["by"].startswith("ann@")]
    said = [(o["what"], o["outcome"]) for o in mine]
    assert said[0] == ("create datastore ds9: 2 copies, for any client", "done"), said
    assert said[1][0] == said[0][0] and said[1][1] == "refused: the name is taken", said
    assert said[2][0] == "maintenance of node 2" and said[3][0] == "end the maintenance of node 2", said
    assert said[4][0].startswith("silence") and "audit lab" in said[4][0] and len(said) == 5, said
    assert all(o["from"].startswith("127.") and o["node"] in (1, 2, 3) and o["at_ms"] > 0 for o in mine), mine
    # The folder of `up` made the datastores that there are; that is an order, too.
    assert any(o["what"].startswith("create datastore ds1") for o in document["orders"]), document
    text = trivet(c, "audit")
    assert text.splitlines()[0].endswith("(done)") and "create datastore ds9" in text, text
    # Audit lines that only a killed node had are gone, and the listing says so.
    gone = mine[0]["node"]
    c.kill(gone)
    left = orders(c)
    assert left["silent"] == [gone], left
    assert not any(o["node"] == gone for o in left["orders"]), left
    print("%d orders on %d nodes told by any of them; those of a dead node are told to be missing" % (len(document["orders"]), len({o["node"] for o in document["orders"]})))
