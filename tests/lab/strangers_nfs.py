#!/usr/bin/env python3
"""A datastore's networks hold on every call, and its handles cannot be made up.

Datastore ds3 is for 127.0.0.1 only. A client at 127.0.0.2 that learned a handle (from the wire, from a host that was
allowed before) is refused reads, writes and attributes; so is a handle with one bit changed, from anywhere. A network
that cannot be one is refused when it is given."""
import socket, struct, subprocess
from cluster import ADDRESS, TRIVET, Cluster
from nfs_client import NFS, Client, opaque

GETATTR, READ, WRITE = 1, 6, 7
ACCESS, BADHANDLE, STALE = 13, 10001, 70


class From(Client):
    """A client whose connections come from one address."""
    def __init__(self, source, root=None):
        self.source, self.known = source, root
        if root is None:
            super().__init__(ADDRESS, export=b"/ds3")
        else:
            self.at, self.patience, self.socket, self.xid, self.root = (ADDRESS, 2049), 20.0, None, 7 << 8, root

    def connect(self):
        self.socket = socket.create_connection(self.at, 3, (self.source, 0))
        self.socket.settimeout(3)

    def status(self, procedure, handle, rest=b""):
        return struct.unpack(">I", self.ask(NFS, procedure, opaque(handle) + rest)[:4])[0]


def datastore(c, *args):
    return subprocess.run([TRIVET, "datastore", "--data", c.data] + list(args), capture_output=True, text=True)


with Cluster() as c:
    wrong = []
    for network in ("banana", "10.0.0.0/99", "10.0.0.1/8/8", "fd00::/129"):
        p = datastore(c, "create", "never", "--clients", network)
        if p.returncode == 0:
            wrong.append("the network %s was accepted" % network)
            datastore(c, "delete", "never")
    p = datastore(c, "create", "ds3", "--clients", "127.0.0.1/32")
    assert p.returncode == 0, p.stderr
    c.wait("ds3 is known", lambda _: "ds3" in datastore(c, "list").stdout)
    allowed = From("127.0.0.1")
    file = allowed.create(b"secret")
    allowed.write(file, [(0, b"only for one host" * 100)])
    read = struct.pack(">QI", 0, 100)
    write = struct.pack(">QII", 0, 4, 2) + opaque(b"evil")
    stranger = From("127.0.0.2", allowed.root)
    for name, procedure, handle, rest in (("attributes", GETATTR, allowed.root, b""), ("data", READ, file, read),
                                          ("a write", WRITE, file, write)):
        status = stranger.status(procedure, handle, rest)
        if status != ACCESS:
            wrong.append("%s for a client of another network: status %d" % (name, status))
    for at in range(len(file)):
        made_up = file[:at] + bytes([file[at] ^ 1]) + file[at + 1:]
        status = allowed.status(GETATTR, made_up)
        if status not in (BADHANDLE, STALE):
            wrong.append("a handle changed at byte %d: status %d" % (at, status))
    assert allowed.status(READ, file, read) == 0
    assert not wrong, "; ".join(wrong)
    print("a client of another network: refused; %d handles with a bit changed: refused; four wrong networks: refused" % len(file))
