"""An NFSv3 client over one TCP connection, in a few lines: calls are sent ahead of their answers, and are sent again over a
new connection when the old one breaks."""
import os, socket, struct, time

NFS, MOUNT = 100003, 100005


def opaque(b):
    return struct.pack(">I", len(b)) + b + b"\0" * (-len(b) % 4)


class Client:
    def __init__(self, address, port=2049, export=b"/ds1", patience=20.0):
        self.at, self.patience, self.socket = (address, port), patience, None
        self.xid = int.from_bytes(os.urandom(3), "big") << 8
        body = self.ask(MOUNT, 1, opaque(export))
        assert body[:4] == b"\0" * 4, "MNT was refused"
        n = struct.unpack(">I", body[4:8])[0]
        self.root = body[8:8 + n]

    def connect(self):
        if self.socket:
            self.socket.close()
        self.socket = None
        self.socket = socket.create_connection(self.at, 3)
        self.socket.settimeout(3)

    def receive(self):
        def exactly(n):
            out = b""
            while len(out) < n:
                more = self.socket.recv(n - len(out))
                if not more:
                    raise ConnectionError("closed")
                out += more
            return out
        return exactly(struct.unpack(">I", exactly(4))[0] & 0x7fffffff)

    def many(self, program, calls, depth=8):
        """The answers to calls of (procedure, body), in their order."""
        self.xid += len(calls)
        first = self.xid - len(calls)
        answers, end = {}, time.time() + self.patience
        while len(answers) < len(calls):
            try:
                if self.socket is None:
                    self.connect()
                todo = [i for i in range(len(calls)) if i not in answers]
                sent = 0
                for done in range(len(todo)):
                    while sent < len(todo) and sent < done + depth:
                        procedure, body = calls[todo[sent]]
                        auth = struct.pack(">II", 1, 20) + struct.pack(">IIIII", 0, 0, 0, 0, 0)
                        head = struct.pack(">IIIIII", first + todo[sent], 0, 2, program, 3, procedure)
                        message = head + auth + struct.pack(">II", 0, 0) + body
                        self.socket.sendall(struct.pack(">I", 0x80000000 | len(message)) + message)
                        sent += 1
                    answer = self.receive()
                    xid = struct.unpack(">I", answer[:4])[0]
                    assert answer[4:24] == struct.pack(">IIIII", 1, 0, 0, 0, 0), answer[:24].hex()
                    answers[xid - first] = answer[24:]
                    end = time.time() + self.patience
            except (OSError, ConnectionError) as e:
                self.socket = None
                if time.time() > end:
                    raise AssertionError("no answer for %d s: %s" % (self.patience, e))
                time.sleep(0.05)
        return [answers[i] for i in range(len(calls))]

    def ask(self, program, procedure, body):
        return self.many(program, [(procedure, body)])[0]

    def create(self, name):
        body = self.ask(NFS, 8, opaque(self.root) + opaque(name) + struct.pack(">I", 0) + b"\0" * 24)
        status, follows, n = struct.unpack(">III", body[:12])
        assert status == 0 and follows == 1, "CREATE answers %d" % status
        return body[12:12 + n]

    def write(self, handle, pieces, depth=8):
        """`pieces`: (offset, bytes), each on disk when this returns."""
        calls = [(7, opaque(handle) + struct.pack(">QII", o, len(d), 2) + opaque(d)) for o, d in pieces]
        for answer in self.many(NFS, calls, depth):
            assert answer[:4] == b"\0" * 4, "WRITE answers %d" % struct.unpack(">I", answer[:4])

    def read(self, handle, offset, length):
        body = self.ask(NFS, 6, opaque(handle) + struct.pack(">QI", offset, length))
        status, follows = struct.unpack(">II", body[:8])
        assert status == 0, "READ answers %d" % status
        at = 8 + (84 if follows else 0) + 8
        n = struct.unpack(">I", body[at:at + 4])[0]
        return body[at + 4:at + 4 + n]
