#!/usr/bin/env python3
"""A stranger at the client port: metad's znodes are not his, the words that tell more than a monitor needs are refused, and
nobody else is disturbed. The cluster's own user and an administrator with node.toml do what they have to."""
import socket, subprocess, time
from cluster import TRIVET, Cluster
from kazoo.client import KazooClient
from kazoo.exceptions import NoAuthError, NoNodeError
from kazoo.security import OPEN_ACL_UNSAFE

NODE = "127.0.0.71"


def refused(what, call):
    try:
        call()
    except NoAuthError:
        return
    raise AssertionError("%s: a stranger may do that" % what)


def word(text):
    with socket.create_connection((NODE, 2181), 5) as s:
        s.sendall(text.encode())
        answer = b""
        while True:
            more = s.recv(4096)
            if not more:
                return answer.decode()
            answer += more


def run(*args):
    out = subprocess.run([TRIVET] + list(args), capture_output=True, text=True, timeout=30)
    assert out.returncode == 0, (args, out.stdout, out.stderr)
    return out.stdout


with Cluster() as c:
    nodes = c.wait("all nodes", lambda n: n if c.all_ready(n) else None)
    stranger = KazooClient("%s:2181" % NODE)
    stranger.start(20)
    end = time.time() + 30
    while True:
        try:
            stranger.get("/metad/epoch")
        except NoAuthError:
            break
        assert time.time() < end, "metad's znodes stay open: %s" % stranger.get_acls("/metad")[0]
        time.sleep(0.2)
    time.sleep(1)  # the walk through all znodes goes on behind the first one
    entry = "/metad/log/%020d" % max(n["metad"]["entries"] for n in nodes if n["metad"])
    for path in ("/metad", "/metad/epoch", "/metad/log", "/metad/election", "/metad/applied", entry):
        refused("read " + path, lambda: stranger.get(path))
        refused("set " + path, lambda: stranger.set(path, b"1"))
        refused("access list of " + path, lambda: stranger.set_acls(path, OPEN_ACL_UNSAFE))
    for path in ("/metad/log/x", "/metad/election/candidate-", "/metad/epoch/x"):
        refused("create " + path, lambda: stranger.create(path, b"1", ephemeral=True, sequence=True))
    refused("delete", lambda: stranger.delete("/metad/epoch"))
    stranger.create("/own", b"a stranger's own znodes are his")
    assert stranger.get("/own")[0].startswith(b"a stranger")
    print("strangers: metad's znodes refused, others served")
    for text in ("stat", "cons", "dump", "wchs", "conf", "envi", "srst", "crst"):
        assert "not in the whitelist" in word(text), text
    assert word("ruok") == "imok" and "Mode:" in word("srvr") and "zk_version" in word("mntr")
    print("words: ruok, srvr, mntr, isro; others refused")
    listed = run("zk", "--cluster", c.data, "ls", "/metad")
    assert "epoch" in listed and "log" in listed, listed
    leader = c.leaders()[0]
    to = leader % 3 + 1
    out = run("coordination", "transfer", "--to", str(to), "--data", c.data)
    assert "server %d leads" % to in out, out
    print("administrator:", out.strip().splitlines()[-1])
    # metad's own user works through a change of its LEADER.
    before = c.wait("all nodes", lambda n: n if c.all_ready(n) else None)
    metad = c.leaders(before)[1]
    c.kill(metad, before)
    c.wait("another LEADER", lambda n: c.leaders(n)[1] not in (None, metad))
    print(run("datastore", "create", "ds3", "--data", c.data).strip())
    c.wait("all nodes", c.all_ready)
    # Candidates of sessions that began since are not open again, nor is how far a metad is.
    for parent in ("/metad/election", "/metad/applied"):
        for child in run("zk", "--cluster", c.data, "ls", parent).split():
            name = child.strip("[],")
            try:
                refused("set a child of " + parent, lambda: stranger.set(parent + "/" + name, b"1"))
            except NoNodeError:
                # A candidate's session can end between the list and the attempt.
                assert name not in run("zk", "--cluster", c.data, "ls", parent), "%s/%s is there" % (parent, name)
    refused("read by the same session", lambda: stranger.get("/metad/epoch"))
    assert stranger.client_state == "CONNECTED"
    stranger.stop()
