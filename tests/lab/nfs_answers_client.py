"""Calls of NFSv3 one by one, with whatever credentials, and their answers as words: for nfs_answers.py."""
import os, socket, struct, time

STATUS = {0: "OK", 1: "PERM", 2: "NOENT", 5: "IO", 6: "NXIO", 13: "ACCES", 17: "EXIST", 18: "XDEV", 19: "NODEV", 20: "NOTDIR",
          21: "ISDIR", 22: "INVAL", 27: "FBIG", 28: "NOSPC", 30: "ROFS", 31: "MLINK", 63: "NAMETOOLONG", 66: "NOTEMPTY",
          69: "DQUOT", 70: "STALE", 71: "REMOTE", 10001: "BADHANDLE", 10002: "NOT_SYNC", 10003: "BAD_COOKIE", 10004: "NOTSUPP",
          10005: "TOOSMALL", 10006: "SERVERFAULT", 10007: "BADTYPE", 10008: "JUKEBOX"}
ACCEPTED = {1: "PROG_UNAVAIL", 2: "PROG_MISMATCH", 3: "PROC_UNAVAIL", 4: "GARBAGE_ARGS", 5: "SYSTEM_ERR"}
DENIED = {0: "RPC_MISMATCH", 1: "AUTH_ERROR"}
NFS, MOUNT = 100003, 100005
(GETATTR, SETATTR, LOOKUP, ACCESS, READLINK, READ, WRITE, CREATE, MKDIR, SYMLINK, MKNOD, REMOVE, RMDIR, RENAME, LINK, READDIR,
 READDIRPLUS, FSSTAT, FSINFO, PATHCONF, COMMIT) = range(1, 22)
# The server is ready within this.
READY_S = 30


def opaque(b):
    return struct.pack(">I", len(b)) + b + b"\0" * (-len(b) % 4)


def sattr(mode=None, uid=None, gid=None, size=None, atime=None, mtime=None):
    """Times: (seconds, nanoseconds), or "now"."""
    out = b""
    for value, form in ((mode, ">I"), (uid, ">I"), (gid, ">I"), (size, ">Q")):
        out += struct.pack(">I", 0) if value is None else struct.pack(">I", 1) + struct.pack(form, value)
    for value in (atime, mtime):
        out += struct.pack(">I", 0) if value is None else struct.pack(">I", 1) if value == "now" else struct.pack(">III", 2, *value)
    return out


class Results:
    """Reads an answer from its beginning."""

    def __init__(self, body):
        self.body, self.at = body, 0

    def u32(self):
        self.at += 4
        return struct.unpack(">I", self.body[self.at - 4:self.at])[0]

    def u64(self):
        self.at += 8
        return struct.unpack(">Q", self.body[self.at - 8:self.at])[0]

    def opaque(self):
        n = self.u32()
        at = self.at
        self.at += n + -n % 4
        return self.body[at:at + n]

    def attr(self):
        kind, mode, nlink, uid, gid = (self.u32() for _ in range(5))
        size, used, rdev, fsid, fileid = (self.u64() for _ in range(5))
        atime, mtime, ctime = ((self.u32(), self.u32()) for _ in range(3))
        return dict(kind=kind, mode=mode, nlink=nlink, uid=uid, gid=gid, size=size, used=used, rdev=rdev, fsid=fsid, fileid=fileid, atime=atime, mtime=mtime, ctime=ctime)

    def post(self):
        return self.attr() if self.u32() else None

    def wcc(self):
        if self.u32():
            self.at += 24
        return self.post()

    def handle(self):
        return self.opaque() if self.u32() else None


class Server:
    def __init__(self, address, nfs, mount, export, log=None):
        self.address, self.ports = address, {NFS: nfs, MOUNT: mount}
        self.sockets, self.xid = {}, int.from_bytes(os.urandom(3), "big") << 8
        end = time.monotonic() + READY_S
        while True:
            try:
                code, r = self.call(MOUNT, 1, opaque(export), uid=0)
                assert code == "OK", code
                break
            except (OSError, AssertionError) as e:
                if time.monotonic() > end:
                    raise AssertionError("%s is not mounted: %s\n%s" % (export, e, open(log).read()[-2000:] if log else ""))
                time.sleep(0.3)
        self.root = r.opaque()

    def connect(self, program):
        s = socket.create_connection((self.address, self.ports[program]), 5)
        s.settimeout(20)
        self.sockets[program] = s
        return s

    def call(self, program, procedure, body, uid=0, gid=None, groups=(), flavour=1, version=3, ask=None):
        """A word, and the results behind the status where there is one."""
        gid = uid if gid is None else gid
        cred = b""
        if flavour == 1:
            cred = struct.pack(">I", 0) + opaque(b"lab") + struct.pack(">III", uid, gid, len(groups)) + b"".join(struct.pack(">I", g) for g in groups)
        self.xid += 1
        message = struct.pack(">IIIIII", self.xid, 0, 2, ask or program, version, procedure)
        message += struct.pack(">I", flavour) + opaque(cred) + struct.pack(">II", 0, 0) + body
        for again in (False, True):
            try:
                s = self.sockets.get(program) or self.connect(program)
                s.sendall(struct.pack(">I", 0x80000000 | len(message)) + message)
                answer = self.receive(s)
                break
            except OSError as e:
                self.sockets.pop(program, None)
                if again:
                    return "closed (%s)" % type(e).__name__, None
        r = Results(answer)
        assert r.u32() == self.xid and r.u32() == 1
        if r.u32() == 1:
            return DENIED[r.u32()], None
        r.u32()
        r.opaque()
        accepted = r.u32()
        if accepted:
            return ACCEPTED[accepted], r
        if procedure == 0:
            return "OK", r
        number = r.u32()
        return STATUS.get(number, str(number)), r

    def receive(self, s):
        out = b""
        while True:
            mark = struct.unpack(">I", self.exactly(s, 4))[0]
            out += self.exactly(s, mark & 0x7fffffff)
            if mark & 0x80000000:
                return out

    def exactly(self, s, n):
        out = b""
        while len(out) < n:
            more = s.recv(n - len(out))
            if not more:
                raise ConnectionError("closed")
            out += more
        return out

    # Calls by their arguments.

    def nfs(self, procedure, *parts, **credentials):
        return self.call(NFS, procedure, b"".join(parts), **credentials)

    def getattr(self, handle):
        code, r = self.nfs(GETATTR, opaque(handle))
        return r.attr() if code == "OK" else code

    def setattr(self, handle, guard=None, as_={}, **what):
        guarded = struct.pack(">I", 0) if guard is None else struct.pack(">III", 1, *guard)
        return self.nfs(SETATTR, opaque(handle), sattr(**what), guarded, **as_)[0]

    def lookup(self, folder, name, **as_):
        code, r = self.nfs(LOOKUP, opaque(folder), opaque(name), **as_)
        return r.opaque() if code == "OK" else code

    def make(self, procedure, folder, name, *rest, **as_):
        """The handle, or the status."""
        code, r = self.nfs(procedure, opaque(folder), opaque(name), *rest, **as_)
        if code != "OK":
            return code
        return r.handle() or self.lookup(folder, name)

    def create(self, folder, name, how=1, as_={}, **what):
        return self.make(CREATE, folder, name, struct.pack(">I", how), sattr(**what), **as_)

    def exclusive(self, folder, name, verifier):
        return self.make(CREATE, folder, name, struct.pack(">I", 2), struct.pack(">Q", verifier))

    def mkdir(self, folder, name, as_={}, **what):
        return self.make(MKDIR, folder, name, sattr(**what), **as_)

    def symlink(self, folder, name, target, as_={}, **what):
        return self.make(SYMLINK, folder, name, sattr(**what), opaque(target), **as_)

    def mknod(self, folder, name, kind, rest=None, as_={}):
        rest = sattr(mode=0o644) + (struct.pack(">II", 1, 3) if kind in (3, 4) else b"") if rest is None else rest
        return self.make(MKNOD, folder, name, struct.pack(">I", kind), rest, **as_)

    def remove(self, folder, name, **as_):
        return self.nfs(REMOVE, opaque(folder), opaque(name), **as_)[0]

    def rmdir(self, folder, name, **as_):
        return self.nfs(RMDIR, opaque(folder), opaque(name), **as_)[0]

    def rename(self, a, name, b, other, **as_):
        return self.nfs(RENAME, opaque(a), opaque(name), opaque(b), opaque(other), **as_)[0]

    def link(self, file, folder, name, **as_):
        return self.nfs(LINK, opaque(file), opaque(folder), opaque(name), **as_)[0]

    def write(self, file, offset, data, stable=2, count=None, **as_):
        """Status, or (count, committed)."""
        body = struct.pack(">QII", offset, len(data) if count is None else count, stable) + opaque(data)
        code, r = self.nfs(WRITE, opaque(file), body, **as_)
        if code != "OK":
            return code
        r.wcc()
        return r.u32(), r.u32()

    def read(self, file, offset, count, **as_):
        """Status, or (bytes, whether the file ends)."""
        code, r = self.nfs(READ, opaque(file), struct.pack(">QI", offset, count), **as_)
        if code != "OK":
            return code
        r.post()
        r.u32()
        end = bool(r.u32())
        return r.opaque(), end

    def access(self, file, wanted=0x3f, **as_):
        code, r = self.nfs(ACCESS, opaque(file), struct.pack(">I", wanted), **as_)
        if code != "OK":
            return code
        r.post()
        return r.u32()

    def readdir(self, folder, cookie=0, count=8192, verifier=0, **as_):
        """Status, or (names, cookies, whether it ends, verifier)."""
        code, r = self.nfs(READDIR, opaque(folder), struct.pack(">QQI", cookie, verifier, count), **as_)
        if code != "OK":
            return code
        r.post()
        verifier, names, cookies = r.u64(), [], []
        while r.u32():
            r.u64()
            names.append(r.opaque())
            cookies.append(r.u64())
        return names, cookies, bool(r.u32()), verifier

    def readdirplus(self, folder, cookie=0, dircount=8192, maxcount=32768):
        code, r = self.nfs(READDIRPLUS, opaque(folder), struct.pack(">QQII", cookie, 0, dircount, maxcount))
        if code != "OK":
            return code
        r.post()
        r.u64()
        entries = {}
        while r.u32():
            r.u64()
            name = r.opaque()
            r.u64()
            attr = r.post()
            entries[name] = (attr, r.handle())
        return entries, bool(r.u32())

    def commit(self, file, offset=0, count=0, **as_):
        return self.nfs(COMMIT, opaque(file), struct.pack(">QI", offset, count), **as_)[0]

    def readlink(self, file):
        code, r = self.nfs(READLINK, opaque(file))
        if code != "OK":
            return code
        r.post()
        return r.opaque()

    def root_is_everybodys(self):
        assert self.setattr(self.root, mode=0o777) == "OK"

    def folder(self, name):
        made = self.mkdir(self.root, name.replace(" ", "-").encode(), mode=0o755)
        assert isinstance(made, bytes), made
        return made
