"""Clients that send before they are answered, through hand-overs of leadership: done, and given up because the target is
stopped after it asked. Each request is answered, in its turn, and a read sees what was written before it, and nothing
that was written after it; no connection ends, but those of a server that was stopped."""
import os, random, signal, struct, threading, time
import wire
from ensemble import HOSTS, Ensemble

CLIENTS, BURST, DONE, STOPPED = 20, 12, 20, 6


class Pipeline(threading.Thread):
    def __init__(self, number, name, stopped):
        super().__init__(daemon=True)
        self.number, self.name_, self.stopped = number, name, stopped
        self.random = random.Random(name)
        self.end, self.errors, self.requests, self.reconnected, self.slowest = threading.Event(), [], 0, 0, 0.0
        self.value = 0
        self.session, self.closed = None, []

    def connect(self):
        # The outcome of requests on a connection that ended is unknown: the next one has a node of its own.
        self.path, self.value = "/pipeline-%s-%d" % (self.name_, self.reconnected), 0
        self.session = wire.Session(HOSTS[self.number])
        err, _ = self.session.ask("create", wire.create(self.path, struct.pack(">q", 0)))
        assert err in (0, -110), err

    def burst(self):
        out, expected = b"", []
        for _ in range(self.random.randint(1, BURST)):
            op, xid = self.random.choice(["set", "set", "get", "get", "sync", "multi", "ping"]), -2
            if op != "ping":
                self.session.xid += 1
                xid = self.session.xid
            if op in ("set", "multi"):
                self.value += 1
            change = wire.setting(self.path, struct.pack(">q", self.value))
            body = dict(set=change, get=wire.watched(self.path), sync=wire.s(self.path), multi=wire.multi(("set", change)), ping=b"")[op]
            out += struct.pack(">iii", 8 + len(body), xid, wire.NAMES[op]) + body
            expected.append((xid, op, self.value))
        self.session.sock.sendall(out)
        return expected

    def hear(self, expected):
        for xid, op, value in expected:
            err, r = self.session.reply(xid)
            self.requests += 1
            if err:
                self.errors.append("%s of %s was answered with %d" % (op, self.path, err))
            elif op == "get":
                seen = struct.unpack(">q", r.buffer())[0]
                # The values that were sent before it, and none that was sent after it.
                if seen != value:
                    self.errors.append("get of %s: %d, after %d was sent" % (self.path, seen, value))

    def run(self):
        while not self.end.is_set():
            try:
                if self.session is None:
                    self.connect()
                begun = time.monotonic()
                self.hear(self.burst())
                self.slowest = max(self.slowest, time.monotonic() - begun)
            except AssertionError as e:
                self.errors.append(str(e))
                return
            except (wire.Closed, OSError) as e:
                if self.number not in self.stopped:
                    self.closed.append((time.monotonic(), "%s on server %d: %r" % (self.path, self.number, e)))
                self.session, self.reconnected = None, self.reconnected + 1
                time.sleep(0.2)


def check():
    with Ensemble({1: "trivet", 2: "trivet", 3: "trivet"}) as e:
        e.wait_all()
        # `frozen`: when a target had the lead already as it was stopped. Every server loses its leader then, and its clients.
        stopped, frozen = set(), []
        clients = [Pipeline(1 + i % 3, str(i), stopped) for i in range(CLIENTS)]
        for c in clients:
            c.connect()
        for c in clients:
            c.start()
        done = given_up = 0
        for n in range(DONE + STOPPED):
            leader = e.leader()
            to = [s for s in e.servers.values() if s.number != leader.number][n % 2]
            stop = n % (1 + DONE // STOPPED) == 1
            if stop:
                # Its clients may lose their connections, and the newest of them may wait for a server that is stopped.
                stopped.add(to.number)
            to.word("lead")
            if stop:
                os.kill(to.process.pid, signal.SIGSTOP)
                began = time.monotonic()
                time.sleep(1.6)
                gave_up = leader.mode() == "leader"
                given_up += gave_up
                os.kill(to.process.pid, signal.SIGCONT)
            e.wait_all()
            if stop:
                time.sleep(0.5)
                stopped.discard(to.number)
                if not gave_up:
                    frozen.append((began, time.monotonic()))
            else:
                # A target that has just begun to follow is refused, and asks again.
                for _ in range(5):
                    end = time.time() + 2
                    while e.leader().number != to.number and time.time() < end:
                        time.sleep(0.05)
                    if e.leader().number == to.number:
                        break
                    to.word("lead")
                done += e.leader().number == to.number
        for c in clients:
            c.end.set()
        for c in clients:
            c.join(20)
        excused = lambda at: any(a <= at <= b for a, b in frozen)
        errors = [x for c in clients for at, x in c.closed if not excused(at)]
        errors += [x for c in clients for x in c.errors] + ["%s is still waiting" % c.path for c in clients if c.is_alive()]
        assert not errors, errors[:5]
        assert done >= DONE - 1 and given_up >= 1, (done, given_up)
        print("pipelines: %d requests by %d clients through %d hand-overs done and %d given up, in order, all answered; %d connections of stopped servers began anew; longest burst %.0f ms"
              % (sum(c.requests for c in clients), CLIENTS, done, given_up, sum(c.reconnected for c in clients), 1000 * max(c.slowest for c in clients)))


if __name__ == "__main__":
    check()
