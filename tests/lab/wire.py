"""A ZooKeeper client that says exactly what it is told to: records as bytes, replies as they came."""
import socket, struct, threading, time

OPEN = [(31, "world", "anyone")]
NAMES = dict(create=1, delete=2, exists=3, get=4, set=5, get_acl=6, set_acl=7, children=8, sync=9, ping=11, children2=12, check=13,
             multi=14, create2=15, reconfig=16, check_watches=17, remove_watches=18, container=19, delete_container=20, ttl=21,
             multi_read=22, auth=100, set_watches=101, sasl=102, ephemerals=103, all_children=104, set_watches2=105, add_watch=106,
             whoami=107, close=-11)


def s(text):
    b = text if isinstance(text, bytes) else text.encode()
    return struct.pack(">i", len(b)) + b


def buf(data):
    return struct.pack(">i", -1) if data is None else struct.pack(">i", len(data)) + data


def vec(items):
    return struct.pack(">i", len(items)) + b"".join(items)


def acls(entries):
    return vec([struct.pack(">i", p) + s(a) + s(b) for p, a, b in entries])


def create(path, data=b"", acl=OPEN, flags=0):
    return s(path) + buf(data) + acls(acl) + struct.pack(">i", flags)


def ttl(path, ms, data=b"", flags=5):
    return create(path, data, OPEN, flags) + struct.pack(">q", ms)


def watched(path, watch=False):
    return s(path) + struct.pack(">?", watch)


def versioned(path, version=-1):
    return s(path) + struct.pack(">i", version)


def setting(path, data, version=-1):
    return s(path) + buf(data) + struct.pack(">i", version)


def multi(*ops):
    out = b"".join(struct.pack(">i?i", NAMES.get(op, op), False, -1) + body for op, body in ops)
    return out + struct.pack(">i?i", -1, True, -1)


class Closed(Exception):
    pass


class Reader:
    def __init__(self, b):
        self.b, self.at = b, 0

    def get(self, form):
        v = struct.unpack_from(">" + form, self.b, self.at)
        self.at += struct.calcsize(">" + form)
        return v[0] if len(v) == 1 else v

    def buffer(self):
        n = self.get("i")
        if n < 0:
            return None
        self.at += n
        return self.b[self.at - n:self.at]

    def text(self):
        return (self.buffer() or b"").decode(errors="replace")

    def stat(self):
        names = "czxid mzxid ctime mtime version cversion aversion owner length children pzxid".split()
        return dict(zip(names, self.get("qqqqiiiqiiq")))

    def rest(self):
        return self.b[self.at:]


class Session:
    """A connection with a session. `events` holds what watches told, `zxid` that of the last reply."""

    def __init__(self, host, timeout=10_000, session=0, password=b"\0" * 16, zxid=0, read_only=False, port=2181, expect=True):
        self.sock = socket.create_connection((host, port), 10)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock.settimeout(15)
        self.buffer, self.events, self.xid, self.zxid = b"", [], 0, 0
        ro = b"" if read_only is None else struct.pack(">?", read_only)
        self.send(struct.pack(">iqiq", 0, zxid, timeout, session) + buf(password) + ro)
        self.answer = None
        if expect:
            r = Reader(self.frame())
            _, self.timeout, self.id = r.get("iiq")
            self.password = r.buffer()
            self.answer = r.rest()

    def send(self, payload):
        self.sock.sendall(struct.pack(">i", len(payload)) + payload)

    def say_meanwhile(self, requests):
        """Sends (xid, op, body) one after the other beside what the caller does next. A broken connection is the reader's to notice."""
        out = b"".join(struct.pack(">iii", 8 + len(body), xid, NAMES[op]) + body for xid, op, body in requests)

        # A slow server may take longer for all of it than for one answer.
        sock = self.sock.dup()
        sock.settimeout(120)

        def send():
            with sock:
                try:
                    sock.sendall(out)
                except OSError:
                    pass
        threading.Thread(target=send, daemon=True).start()

    def frame(self):
        while True:
            if len(self.buffer) >= 4:
                n = struct.unpack(">i", self.buffer[:4])[0]
                if len(self.buffer) >= 4 + n:
                    out, self.buffer = self.buffer[4:4 + n], self.buffer[4 + n:]
                    return out
            try:
                more = self.sock.recv(1 << 20)
            except ConnectionError:
                raise Closed
            if not more:
                raise Closed
            self.buffer += more

    def request(self, op, body=b"", xid=None):
        self.xid += 1
        xid = self.xid if xid is None else xid
        self.send(struct.pack(">ii", xid, NAMES.get(op, op)) + body)
        return xid

    def reply(self, xid):
        """The reply to this request: its error and a reader behind the header. Events on the way are kept."""
        while True:
            r = Reader(self.frame())
            got, zxid, err = r.get("iqi")
            if got == -1:
                kind, state = r.get("ii")
                self.events.append((kind, r.text()))
                continue
            assert got == xid, "reply to %d, %d was expected" % (got, xid)
            if zxid > 0:
                self.zxid = zxid
            return err, r

    def ask(self, op, body=b"", xid=None):
        return self.reply(self.request(op, body, xid))

    def err(self, op, body=b""):
        """The error's code, or what the server did instead of answering."""
        try:
            return self.ask(op, body)[0]
        except (Closed, ConnectionError):
            return "closed"
        except socket.timeout:
            return "silence"

    def auth(self, scheme, data):
        return self.ask("auth", struct.pack(">i", 0) + s(scheme) + buf(data), -4)[0]

    def wait_events(self, count, seconds=5):
        """Waits until so many events came in all."""
        end = time.time() + seconds
        while len(self.events) < count and time.time() < end:
            self.ask("ping", xid=-2)
            time.sleep(0.02)
        return self.events

    def close(self):
        try:
            return self.ask("close")[0]
        except Closed:
            return "closed"
        finally:
            self.sock.close()


def is_closed(sock, seconds=3):
    sock.settimeout(seconds)
    try:
        while True:
            if not sock.recv(65536):
                return True
    except socket.timeout:
        return False
    except ConnectionError:
        return True


def multi_results(r):
    """(type, error, stat or path) of each part."""
    out = []
    while True:
        kind, done, err = r.get("i?i")
        if done:
            return out
        if kind == -1:
            out.append(("error", r.get("i")))
        elif kind == 1:
            out.append(("create", r.text()))
        elif kind == 15:
            out.append(("create2", r.text(), r.stat()["version"]))
        elif kind == 5:
            out.append(("set", r.stat()["version"]))
        elif kind == 4:
            out.append(("get", r.buffer(), r.stat()["version"]))
        elif kind == 8:
            out.append(("children", sorted(r.text() for _ in range(r.get("i")))))
        else:
            out.append((kind, err))
