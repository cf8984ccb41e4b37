#!/usr/bin/env python3
"""Every port that a cluster listens on, asked by a stranger who has no credentials: what answers, and what does not.

What may answer stands in docs/security.md, in the table that this lab reads: a port that is not in it, one of it that nobody
listens on, an answer that it does not allow, or a missing one that it promises is a failure."""
import concurrent.futures, os, re, socket, struct, subprocess, sys, time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from cluster import Cluster, ROOT

WAIT_S = 4
AT_ONCE = 64


def rpc(program, version, procedure, arguments=b"", record=True):
    body = struct.pack(">10I", 1, 0, 2, program, version, procedure, 0, 0, 0, 0) + arguments
    return (struct.pack(">I", 0x80000000 | len(body)) if record else b"") + body


def hello():
    """A ClientHello of TLS 1.3 without a certificate, as openssl would begin."""
    extensions = bytes.fromhex("000a00040002001d000d00080006040308040401002b00030203040033002600240 01d0020".replace(" ", "")) + os.urandom(32)
    body = b"\x03\x03" + os.urandom(32) + b"\0" + bytes.fromhex("00021301") + b"\x01\0" + struct.pack(">H", len(extensions)) + extensions
    body = b"\x01" + struct.pack(">I", len(body))[1:] + body
    return b"\x16\x03\x01" + struct.pack(">H", len(body)) + body


# The requests of a stranger; the names are those of docs/security.md's table.
TCP = {
    "nothing": b"",
    "HTTP": b"GET /api/v1/alerts HTTP/1.1\r\nHost: 127.0.0.1:8088\r\nConnection: close\r\n\r\n",
    "ruok": b"ruok", "srvr": b"srvr", "conf": b"conf", "dump": b"dump", "kill": b"kill",
    "a ZooKeeper session": struct.pack(">iiqiqi16s?", 45, 0, 0, 10000, 0, 16, b"\0" * 16, False),
    "NFS NULL": rpc(100003, 3, 0), "MOUNT NULL": rpc(100005, 3, 0), "portmapper NULL": rpc(100000, 2, 0), "NLM NULL": rpc(100021, 4, 0),
    "TLS without a certificate": hello(),
    "random bytes": os.urandom(200),
}
UDP = {"NFS NULL": rpc(100003, 3, 0, record=False), "MOUNT NULL": rpc(100005, 3, 0, record=False), "portmapper NULL": rpc(100000, 2, 0, record=False),
       "random bytes": os.urandom(48), "many random bytes": os.urandom(1200)}


def table():
    """{(protocol, port): set of what is answered}, from docs/security.md, and the ports that demand TLS."""
    text = open(os.path.join(ROOT, "docs/security.md")).read()
    rows = re.findall(r"^\| (tcp|udp) (\d+) \| ([^|]*) \| ([^|]*) \|", text, re.M)
    allowed = {(protocol, int(port)): set() if "nothing" in said else set(re.split(r", ", said.strip())) for protocol, port, _, said in rows}
    return allowed, {(protocol, int(port)) for protocol, port, what, _ in rows if "TLS, and proof of the cluster's key" in what}


def listening():
    found = {}
    for line in subprocess.run(["ss", "-Hltun"], capture_output=True, text=True, check=True).stdout.splitlines():
        protocol, local = line.split()[0], line.split()[4]
        host, port = local.rsplit(":", 1)
        found.setdefault((protocol, int(port)), set()).add(host.strip("[]").split("%")[0])
    return found


def meant(name, answer):
    """Whether an answer gives anything: a refusal, an alert of TLS, or an RPC program that is not there does not."""
    if not answer or answer.startswith(b"\x15\x03"):
        return False
    if name.endswith("NULL"):
        return answer[-4:] == b"\0\0\0\0"  # accepted, success
    if name == "TLS without a certificate":
        return answer.startswith(b"\x17\x03")
    return not re.search(rb"not executed|HTTP/1.1 4\d\d", answer)


def ask(kind, host, port, said):
    with socket.socket(socket.AF_INET, kind) as s:
        s.settimeout(WAIT_S)
        try:
            s.connect((host, port))
            if said:
                s.sendall(said)
            return s.recv(4096)
        except OSError:
            return b""


def main():
    allowed, demand_tls = table()
    assert allowed and demand_tls, "docs/security.md has no table of ports"
    with Cluster() as c:
        c.wait("the cluster serves", lambda nodes: len(nodes) == 3 and all(n["ready"] for n in nodes))
        # From then on nothing is taken in clear between coordination servers.
        c.wait("TLS is demanded", lambda nodes: len(nodes) == 3 and all(n["coordination"]["quorum_tls"] == "required" for n in nodes))
        time.sleep(1)
        found = listening()
        assert set(found) == set(allowed), "listening and not in docs/security.md: %s; in it and not listening: %s" % (
            sorted(set(found) - set(allowed)), sorted(set(allowed) - set(found)))
        pool = concurrent.futures.ThreadPoolExecutor(AT_ONCE)
        for (protocol, port), hosts in sorted(found.items()):
            kind, probes = (socket.SOCK_STREAM, TCP) if protocol == "tcp" else (socket.SOCK_DGRAM, UDP)
            asked = [(name, pool.submit(ask, kind, host, port, said)) for host in hosts for name, said in probes.items()]
            answered = {name for name, answer in asked if meant(name, answer.result())}
            if (protocol, port) in demand_tls:
                # A handshake, and nothing but alerts to whatever is none.
                for name, answer in asked:
                    kinds = answer.result()[:1]
                    assert kinds == b"\x16" if name.startswith("TLS") else kinds in (b"", b"\x15"), (port, name, answer.result()[:40])
            print("%s %-5d %d addresses  %s" % (protocol, port, len(hosts), ", ".join(sorted(answered)) or "nothing"))
            assert answered == allowed[(protocol, port)], "%s %d answers %s, docs/security.md says %s" % (protocol, port, sorted(answered), sorted(allowed[(protocol, port)]))
        c.wait("nobody was disturbed", lambda nodes: len(nodes) == 3 and all(n["ready"] for n in nodes))


if __name__ == "__main__":
    main()
