#!/usr/bin/env python3
"""Locks of two kernel clients that mount without `nolock`, through takeovers of the datastore address.

What one client has locked is refused to the other; who waits for a lock is called back as soon as it is free, also by
the next gateway when the address moves meanwhile; locks stay where they are through a takeover, without a grace period;
and a client that says that it has started again (SM_NOTIFY) has none any more.
All of it in a network namespace of its own: two virtual machines and the cluster on one bridge."""
import os, socket, struct, subprocess, sys, time

if os.environ.get("TRIVET_LOCKS_INSIDE") != "1":
    os.environ["TRIVET_LOCKS_INSIDE"] = "1"
    sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
    import cluster
    cluster.prepare()
    cluster.build("locks")
    inside = "ip link set lo up; mount -t tmpfs tmpfs /run; exec \"$@\""
    os.execvp("unshare", ["unshare", "--net", "--mount", "sh", "-c", inside, "sh", sys.executable] + sys.argv)

from cluster import TRIVET, Cluster, Guest, build  # noqa: E402

SERVER = "10.70.0.70"
# A lock that is free is heard of within this; a Linux client would ask again after 30 s by itself.
CALL_BACK_S = 10
SCRIPT = "grep ' /mnt ' /proc/mounts; exec locks /mnt/file\n"


def ip(*args):
    subprocess.check_call(["ip"] + list(args))


class Client:
    def __init__(self, number):
        self.address = "10.70.0.1%d" % number
        tap = "t%d" % number
        ip("tuntap", "add", tap, "mode", "tap")
        ip("link", "set", tap, "master", "br0", "up")
        self.guest = Guest(SCRIPT, bins=[build("locks")], server=SERVER, timeout=600, options=[
            "--no-ports", "--locks", "--net", "tap:%s,%s/24" % (tap, self.address), "--hostname", "guest%d" % number])
        self.read = 0

    def ready(self):
        self.guest.wait_for("READY", 180)
        mount = next(l for _, l in self.guest.lines if " /mnt " in l)
        assert "nolock" not in mount and "local_lock=none" in mount, mount

    def say(self, command):
        self.read = len(self.guest.lines)
        self.guest.say(command)

    def answer(self, seconds=60):
        end = time.monotonic() + seconds
        while True:
            words = [l.split()[0] for _, l in self.guest.lines[self.read:] if l.split()[:1] and l.split()[0] in ("OK", "NO", "FREE", "HELD", "FAIL")]
            if words:
                assert words[0] != "FAIL", self.guest.lines[self.read:]
                return words[0]
            assert time.monotonic() < end, "no answer within %d s: %s" % (seconds, self.guest.lines[-3:])
            time.sleep(0.02)

    def ask(self, command, seconds=60):
        self.say(command)
        return self.answer(seconds)

    def expect(self, command, expected):
        got = self.ask(command)
        assert got == expected, "%s: %s, and not %s" % (command, got, expected)


def notify(address, start):
    """SM_NOTIFY as a client that has started again sends it, over UDP from its address."""
    name = b"guest"
    call = struct.pack(">10I", 9, 0, 2, 100024, 1, 6, 0, 0, 0, 0) + struct.pack(">I", len(name)) + name + b"\0" * (-len(name) % 4) + struct.pack(">I", start)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.bind((address, 0))
        s.settimeout(3)
        for _ in range(5):
            s.sendto(call, (SERVER, 2049))
            try:
                return s.recv(200)
            except socket.timeout:
                continue
    raise AssertionError("SM_NOTIFY was not answered")


def takeover(c):
    holder = c.leaders()[2]
    c.kill(holder)
    c.wait("another node has the address", lambda n: c.leaders(n)[2] not in (None, holder))


def conflicts(a, b):
    a.expect("try w 0 10", "OK")
    b.expect("try r 5 1", "NO")
    b.expect("test r 5 1", "HELD")
    b.expect("try w 10 10", "OK")
    a.expect("try r 15 0", "NO")
    a.expect("free 3 3", "OK")
    b.expect("try w 3 3", "OK")
    b.expect("try w 2 1", "NO")
    b.expect("free 0 0", "OK")
    a.expect("free 0 0", "OK")
    print("two kernel clients: ranges, shared and exclusive, an unlock in the middle")


def called_back(a, b):
    a.expect("try w 0 0", "OK")
    b.say("wait w 0 100")
    time.sleep(2)
    begun = time.monotonic()
    a.expect("free 0 0", "OK")
    assert b.answer(CALL_BACK_S) == "OK"
    print("who waits is called back: %.2f s after the unlock" % (time.monotonic() - begun))
    a.expect("try r 0 1", "NO")
    b.expect("free 0 0", "OK")


def through_takeovers(c, a, b):
    a.expect("try w 0 10", "OK")
    takeover(c)
    b.expect("try w 0 10", "NO")
    b.expect("try w 20 10", "OK")
    # A client that waits for a lock at the gateway that dies is called back by the next one.
    b.say("wait w 0 10")
    time.sleep(2)
    c.wait("all nodes", c.all_ready)
    takeover(c)
    begun = time.monotonic()
    a.expect("free 0 10", "OK")
    assert b.answer(CALL_BACK_S) == "OK"
    print("locks and who waits for them outlive two takeovers: called back %.2f s after the unlock" % (time.monotonic() - begun))
    a.expect("try r 25 1", "NO")
    b.expect("free 0 0", "OK")


def started_again(c, a, b):
    a.expect("try w 0 0", "OK")
    b.say("wait w 0 0")
    time.sleep(1)
    listed = subprocess.run([TRIVET, "datastore", "--data", c.data, "locks"], capture_output=True, text=True).stdout
    assert "%s has bytes 0 to end" % a.address in listed and "%s waits for" % b.address in listed, listed
    a.guest.process.kill()
    a.guest.process.wait()
    # The dead client's address, to speak for its next start.
    ip("addr", "add", a.address + "/32", "dev", "br0")
    begun = time.monotonic()
    notify(a.address, 99)
    assert b.answer(CALL_BACK_S) == "OK"
    print("a client that says that it has started again has no locks: the next one had its own after %.2f s" % (time.monotonic() - begun))
    b.say("die")
    b.guest.end()


if __name__ == "__main__":
    ip("link", "add", "br0", "type", "bridge")
    ip("link", "set", "br0", "up")
    for last in (71, 72, 73):
        ip("addr", "add", "10.70.0.%d/24" % last, "dev", "br0")
    with Cluster("--base-address", SERVER) as c:
        a, b = Client(1), Client(2)
        try:
            for client in (a, b):
                client.ready()
            for check in (lambda: conflicts(a, b), lambda: called_back(a, b), lambda: through_takeovers(c, a, b), lambda: started_again(c, a, b)):
                check()
        finally:
            for client in (a, b):
                if client.guest.process.poll() is None:
                    client.guest.process.terminate()
