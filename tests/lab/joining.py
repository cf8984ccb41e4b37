#!/usr/bin/env python3
"""How a server catches up: with the transactions that it missed from memory and from logs, by cutting what nobody else has,
with a snapshot, with one of more than 64 MiB. A server of ours behind Apache's leader, and Apache's behind ours. Then the
epoch files: what a server of ours starts on, and what it refuses."""
import os, shutil, signal, sys, time
from kazoo.client import KazooClient
from kazoo.exceptions import ConnectionLoss, KazooException, NodeExistsError, SessionExpiredError
from kazoo.retry import KazooRetry
from ensemble import Ensemble, HOSTS

BIG = 1_000_000


def client(number):
    zk = KazooClient(HOSTS[number] + ":2181", timeout=10, connection_retry=dict(max_tries=-1, delay=0.05, max_delay=0.3))
    zk.start(timeout=30)
    return zk


def picture(number):
    """Every node below / as this server has it, but for what servers keep for themselves."""
    zk = client(number)
    zk.sync("/")
    out, todo = {}, ["/"]
    while todo:
        path = todo.pop()
        data, stat = zk.get(path)
        out[path] = (hash(data), stat.version, stat.cversion, stat.czxid, stat.mzxid, stat.pzxid)
        todo += [path.rstrip("/") + "/" + c for c in zk.get_children(path) if path + c != "/zookeeper"]
    zk.stop()
    return out


def write(zk, root, count, size=100):
    """All of them, again after a lost connection, which is told: it is no subject of this lab whether a leader stays."""
    again = KazooRetry(max_tries=50, delay=0.1, max_delay=0.5)
    again(zk.ensure_path, root)
    todo, tries = list(range(count)), 0
    while todo:
        waiting = [(i, zk.create_async("%s/n%06d" % (root, i), b"x" * size)) for i in todo]
        todo = []
        for i, w in waiting:
            try:
                w.get(timeout=60)
            except NodeExistsError:
                assert tries, "created twice"
            except (ConnectionLoss, SessionExpiredError):
                todo.append(i)
        if todo:
            tries += 1
            assert tries < 5, "the connection is lost again and again"
            print("  the connection was lost, %d writes again" % len(todo), flush=True)
            again(zk.exists, root)


def same_everywhere(e, what):
    pictures = [picture(i) for i in e.servers]
    assert all(p == pictures[0] for p in pictures), "%s: the trees differ" % what
    return len(pictures[0])


def let_lead(e, number):
    """Kills whoever leads until this one does."""
    for _ in range(10):
        e.wait_all()
        leader = e.leader()
        if leader.number == number:
            return
        leader.kill()
        e.leader()
        leader.start()
    raise AssertionError("server %d does not lead" % number)


def back(e, joiner, what):
    joiner.start()
    e.wait_all()
    count = same_everywhere(e, what)
    print("  %-44s %6d nodes the same on all" % (what, count), flush=True)


def cases(kinds, joiner_number):
    ensemble = Ensemble(kinds)
    for s in ensemble.servers.values():
        # With 256 MiB Apache's runs out of memory over the 80 MB.
        s.heap_mib = 1000
    with ensemble as e:
        e.wait_all()
        joiner = e.servers[joiner_number]
        others = [s for s in e.servers.values() if s is not joiner]
        print("%s joins %s" % (joiner.kind, others[0].kind), flush=True)

        def without_it(root, count, size=100):
            """The others write something while it is away; it may have been the leader."""
            e.leader()
            zk = client(others[0].number)
            write(zk, root, count, size)
            zk.stop()
        joiner.kill()
        without_it("/few", 50)
        back(e, joiner, "50 transactions from memory")
        joiner.kill()
        without_it("/many", 3_000)
        back(e, joiner, "3,000, more than Apache keeps in memory")

        # The transactions that only the joiner has logged are cut off: it leads, the others are frozen and die before they read it.
        let_lead(e, joiner_number)
        lonely = client(joiner_number)
        for s in others:
            s.process.send_signal(signal.SIGSTOP)
        # Until their last thread stands still.
        time.sleep(0.1)
        lost = lonely.create_async("/only-here", b"")
        time.sleep(0.3)
        assert not lost.ready(), "acknowledged by one server alone"
        joiner.kill()
        for s in others:
            s.kill()
        try:
            lonely.stop()
            lonely.close()
        except KazooException:
            pass
        for s in others:
            s.start()
        without_it("/without", 20)
        back(e, joiner, "what nobody else has is cut")
        zk = client(joiner_number)
        assert not zk.exists("/only-here"), "a transaction of one server alone survived"
        zk.stop()

        joiner.kill()
        shutil.rmtree(os.path.join(joiner.data, "version-2"))
        back(e, joiner, "everything, to an empty disk")
        joiner.kill()
        shutil.rmtree(os.path.join(joiner.data, "version-2"))
        without_it("/big", 80, BIG)
        back(e, joiner, "80 MB, to an empty disk")


def epoch_files():
    with Ensemble({1: "trivet", 2: "trivet", 3: "trivet"}) as e:
        e.wait_all()
        s = next(x for x in e.servers.values() if x.mode() == "follower")
        folder = os.path.join(s.data, "version-2")
        read = lambda name: int(open(os.path.join(folder, name)).read())

        def put(name, value):
            with open(os.path.join(folder, name), "w") as f:
                f.write("%d" % value)
        s.kill()
        put("acceptedEpoch", read("acceptedEpoch") + 3)
        s.start()
        e.wait_all()
        zk = client(s.number)
        write(zk, "/epochs", 5)
        zk.stop()
        s.kill()
        os.remove(os.path.join(folder, "acceptedEpoch"))
        os.remove(os.path.join(folder, "currentEpoch"))
        s.start()
        e.wait_all()
        same_everywhere(e, "epoch files")
        s.kill()
        put("acceptedEpoch", 1)
        put("currentEpoch", 2)
        s.start()
        assert s.process.wait(20) != 0, "a server that promised less than it had began"
        log = open(os.path.join(s.folder, "log")).read()
        assert "older than currentEpoch" in log, log[-300:]
        s.process = None
        print("epoch files: one ahead and missing ones are taken, a promise that was taken back is refused", flush=True)


def main():
    """All parts, or those that are named: `ours` (joins Apache's), `apache` (joins ours), `epochs`."""
    parts = {"ours": lambda: cases({1: "apache", 2: "apache", 3: "trivet"}, 3),
             "apache": lambda: cases({1: "trivet", 2: "trivet", 3: "apache"}, 3), "epochs": epoch_files}
    for name in sys.argv[1:] or parts:
        parts[name]()
    return 0


if __name__ == "__main__":
    sys.exit(main())
