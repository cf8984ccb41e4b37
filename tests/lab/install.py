#!/usr/bin/env python3
"""A cluster by the documents: init, invite, join, check and serve on three addresses, with what systemd is told.

Everything runs on loopback addresses and in a folder of its own; each check is a function that names what it shows.
"""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request

TRIVET = os.environ.get("TRIVET_BIN", os.path.join(os.path.dirname(__file__), "../../target/release/trivet"))
NODES = {1: "127.0.9.11", 2: "127.0.9.12", 3: "127.0.9.13"}
VIRTUAL_IP = "127.0.9.20"
# Seconds that a step may take on a machine that stalls now and then.
PATIENCE = 60


def trivet(*args, **more):
    return subprocess.run([TRIVET, *args], capture_output=True, text=True, timeout=PATIENCE, **more)


def refused(result, *words):
    said = result.stderr + result.stdout
    assert result.returncode != 0, f"accepted: {said}"
    assert len(result.stderr.strip().splitlines()) == 1, f"more than one line: {result.stderr}"
    for word in words:
        assert word in said, f"{word!r} is not in {said!r}"


def until(what, condition):
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        try:
            found = condition()
        except OSError:
            found = None
        if found:
            return found
        time.sleep(0.2)
    raise AssertionError(f"not within {PATIENCE} s: {what}")


class Cluster:
    def __init__(self, root):
        self.root = root
        self.processes = {}
        self.sockets = {}
        self.told = {}

    def etc(self, n):
        return os.path.join(self.root, f"etc{n}")

    def data(self, n):
        return os.path.join(self.root, f"data{n}")

    def toml(self, n):
        return os.path.join(self.etc(n), "node.toml")

    def start(self, n):
        """As the unit does it: with a socket for notifications and a watchdog."""
        path = os.path.join(self.root, f"notify{n}")
        notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        notify.bind(path)
        notify.setblocking(False)
        self.sockets[n], self.told[n] = notify, []
        environment = dict(os.environ, NOTIFY_SOCKET=path, WATCHDOG_USEC="4000000")
        log = open(os.path.join(self.root, f"log{n}"), "w")
        self.processes[n] = subprocess.Popen(
            [TRIVET, "serve", "--config", self.toml(n)], env=environment, stdout=log, stderr=log
        )

    def messages(self, n):
        while True:
            try:
                self.told[n] += self.sockets[n].recv(4096).decode().splitlines()
            except BlockingIOError:
                return self.told[n]

    def stop(self):
        for process in self.processes.values():
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)
                process.kill()
                process.wait()


def init_makes_the_first_node_and_never_a_second_time(c):
    nodes = ",".join(f"{n}={a}" for n, a in NODES.items())
    options = ["--nodes", nodes, "--datastore-addresses", VIRTUAL_IP, "--config-dir", c.etc(1), "--data", c.data(1)]
    made = trivet("init", *options)
    assert made.returncode == 0, made.stderr
    key = open(os.path.join(c.etc(1), "cluster.key")).read()
    assert os.stat(os.path.join(c.etc(1), "cluster.key")).st_mode & 0o007 == 0
    refused(trivet("init", *options), "exists", "nothing was changed")
    assert open(os.path.join(c.etc(1), "cluster.key")).read() == key
    text = open(c.toml(1)).read()
    assert text.count("#") > 10, "node.toml explains itself"
    checked = trivet("check-config", c.toml(1))
    assert checked.returncode == 0 and "node 1 of 3" in checked.stdout, checked.stderr


def a_changed_file_is_judged_before_it_is_used(c):
    text = open(c.toml(1)).read()
    wrong = os.path.join(c.root, "wrong.toml")
    for change, word in [
        (text.replace("node = 1", "node = 9"), "node 9"),
        (text + "\ntypo = 1\n", "typo"),
        (text.replace(VIRTUAL_IP, NODES[2]), NODES[2]),
        (text.replace("version = 1", "version = 7"), "newer version"),
        ("no toml at all", wrong),
    ]:
        open(wrong, "w").write(change)
        result = trivet("check-config", wrong)
        assert result.returncode != 0 and word in result.stderr, (word, result.stderr)
        served = trivet("serve", "--config", wrong)
        assert served.returncode == 78, f"the unit would start it again: {served.returncode} {served.stderr}"


def hosts_join_by_a_token_that_is_used_once(c):
    for n in (2, 3):
        waiting = subprocess.Popen(
            [TRIVET, "invite", "--config", c.toml(1), "--node", str(n)], stdout=subprocess.PIPE, text=True
        )
        token = None
        for line in waiting.stdout:
            if "trivet join " in line:
                token = line.split()[-1]
                break
        assert token, "no token was printed"
        options = ["--config-dir", c.etc(n), "--data", c.data(n)]
        guess = token[:-8] + "00000000"
        refused(trivet("join", guess, *options), "refused")
        # The certificate of the token is that of the server, or nothing is sent.
        parts = token.split("/")
        parts[2] = "0" * 64
        refused(trivet("join", "/".join(parts), *options), "not the one that made the token")
        assert not os.path.exists(c.etc(n)), "a refused token leaves nothing"
        joined = trivet("join", token, *options)
        assert joined.returncode == 0, joined.stderr
        assert waiting.wait(PATIENCE) == 0
        again = [f"{c.etc(n)}-again", f"{c.data(n)}-again"]
        refused(trivet("join", token, "--config-dir", again[0], "--data", again[1]), "cannot reach")
        keys = {open(os.path.join(c.etc(m), "cluster.key")).read() for m in (1, n)}
        assert len(keys) == 1, "the key is the cluster's"
    refused(trivet("invite", "--config", c.toml(1), "--node", "7"), "not in [nodes]")


def check_says_what_a_host_lacks(c):
    result = trivet("check", "--config", c.toml(2))
    for word in ["key", "address", "ports", "space", "clock", "peer"]:
        assert word in result.stdout, (word, result.stdout)
    held = socket.socket()
    held.bind((NODES[2], 2888))
    held.listen()
    blocked = trivet("check", "--config", c.toml(2))
    held.close()
    assert blocked.returncode != 0 and "2888 (quorum)" in blocked.stdout, blocked.stdout
    as_json = trivet("check", "--config", c.toml(2), "--json")
    assert '"schema": "trivet.check/1"' in as_json.stdout


def nodes_serve_and_tell_systemd(c):
    for n in NODES:
        c.start(n)
    for n in NODES:
        until(f"READY=1 of node {n}", lambda n=n: "READY=1" in c.messages(n))
        until(f"pings of node {n}'s watchdog", lambda n=n: c.messages(n).count("WATCHDOG=1") >= 2)
        assert any(m.startswith("STATUS=") for m in c.told[n])
    for n, address in NODES.items():
        ready = f"http://{address}:8088/readyz"
        until(f"{ready} to say 200", lambda u=ready: urllib.request.urlopen(u, timeout=5).status == 200)


def a_stranger_on_the_ports_between_nodes_hears_nothing(c):
    for port in (4880, 4881):
        plain = socket.create_connection((NODES[1], port), timeout=10)
        plain.sendall(b"\x00\x00\x00\x10" + b"\x08\x02" * 8)
        answer = b""
        try:
            while part := plain.recv(4096):
                answer += part
        except OSError:
            pass
        # A TLS alert at most (type 21), and no greeting with the cluster's id.
        assert answer == b"" or answer[0] == 21, answer
        cluster = open(c.toml(1)).read().split('cluster = "')[1].split('"')[0]
        assert cluster.encode() not in answer
        plain.close()


def a_told_stop_is_orderly(c):
    c.processes[3].send_signal(signal.SIGTERM)
    assert c.processes[3].wait(PATIENCE) == 0
    assert "STOPPING=1" in c.messages(3)


CHECKS = [
    init_makes_the_first_node_and_never_a_second_time,
    a_changed_file_is_judged_before_it_is_used,
    hosts_join_by_a_token_that_is_used_once,
    check_says_what_a_host_lacks,
    nodes_serve_and_tell_systemd,
    a_stranger_on_the_ports_between_nodes_hears_nothing,
    a_told_stop_is_orderly,
]


def main():
    root = tempfile.mkdtemp(prefix="trivet-install-")
    cluster = Cluster(root)
    failed = True
    try:
        for check in CHECKS:
            begun = time.monotonic()
            check(cluster)
            print(f"{check.__name__}: ok, {time.monotonic() - begun:.1f} s", flush=True)
        failed = False
    finally:
        cluster.stop()
        if failed:
            for n in NODES:
                path = os.path.join(root, f"log{n}")
                if os.path.exists(path):
                    print(f"-- node {n}\n" + "".join(open(path).readlines()[-20:]), file=sys.stderr)
        shutil.rmtree(root, ignore_errors=True)


if __name__ == "__main__":
    main()
