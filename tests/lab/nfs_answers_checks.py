"""The checks of nfs_answers.py: each is a function of a server and a folder of its own, and returns what was answered as a text."""
from nfs_answers_client import FSINFO, FSSTAT, LINK, MOUNT, NFS, PATHCONF, RENAME, opaque

MIB = 1 << 20
OTHER = dict(uid=1000, gid=1000)
THIRD = dict(uid=1001, gid=1001)
FIFO, SOCKET, BLOCK, CHARACTER = 7, 6, 3, 4
CHECKS = []


def check(f):
    CHECKS.append((f.__name__.replace("_", " "), f))
    return f


def all_checks():
    return CHECKS


def word(answer):
    """A status, or that it succeeded."""
    return answer if isinstance(answer, str) else "OK"


def words(*answers):
    return " ".join(word(a) for a in answers)


def kinds(s, d):
    """An object of each kind: a folder, a symbolic link, a fifo and a file, by their names."""
    s.create(d, b"file")
    return {"dir": s.mkdir(d, b"dir"), "link": s.symlink(d, b"link", b"file"), "fifo": s.mknod(d, b"fifo", FIFO), "file": s.lookup(d, b"file")}


# Guards of SETATTR.

@check
def a_guard_that_does_not_match(s, d):
    f = s.create(d, b"f", mode=0o644)
    s.write(f, 0, b"x" * 100)
    c = s.getattr(f)["ctime"]
    wrong = (c[0] - 5, c[1])
    answers = [s.setattr(f, guard=wrong, mode=0o600), s.setattr(f, guard=wrong, size=10), s.setattr(f, guard=wrong, mode=0o600, size=10)]
    after = s.getattr(f)
    return "%s mode %o size %d" % (words(*answers), after["mode"], after["size"])


@check
def a_guard_that_matches(s, d):
    f = s.create(d, b"f", mode=0o644)
    s.write(f, 0, b"x" * 100)
    first = s.setattr(f, guard=s.getattr(f)["ctime"], mode=0o600)
    second = s.setattr(f, guard=s.getattr(f)["ctime"], size=10)
    after = s.getattr(f)
    return "%s mode %o size %d" % (words(first, second), after["mode"], after["size"])


# Operations on what they are not for.

@check
def reads_of_what_has_no_bytes(s, d):
    k = kinds(s, d)
    return words(*[s.read(k[x], 0, 100) for x in ("dir", "link", "fifo")])


@check
def writes_to_what_has_no_bytes(s, d):
    k = kinds(s, d)
    return words(*[s.write(k[x], 0, b"x") for x in ("dir", "link", "fifo")])


@check
def commits_of_what_has_no_bytes(s, d):
    k = kinds(s, d)
    return words(*[s.commit(k[x]) for x in ("dir", "link", "fifo")])


@check
def sizes_of_what_has_no_bytes(s, d):
    k = kinds(s, d)
    return words(*[s.setattr(k[x], size=0) for x in ("dir", "link", "fifo")])


@check
def listings_of_what_is_no_folder(s, d):
    k = kinds(s, d)
    return words(*[f(k[x]) for x in ("file", "link") for f in (s.readdir, s.readdirplus)])


@check
def names_in_what_is_no_folder(s, d):
    f = kinds(s, d)["file"]
    return words(s.lookup(f, b"x"), s.create(f, b"x"), s.mkdir(f, b"x"), s.symlink(f, b"x", b"y"), s.mknod(f, b"x", FIFO), s.remove(f, b"x"), s.rmdir(f, b"x"), s.rename(f, b"x", d, b"y"), s.link(f, f, b"x"))


@check
def targets_of_what_is_no_link(s, d):
    k = kinds(s, d)
    return words(s.readlink(k["file"]), s.readlink(k["dir"]), s.readlink(k["fifo"]))


@check
def removing_the_wrong_kind(s, d):
    kinds(s, d)
    return words(s.remove(d, b"dir"), s.rmdir(d, b"file"), s.rmdir(d, b"link"), s.remove(d, b"none"), s.rmdir(d, b"none"))


@check
def a_folder_that_is_not_empty(s, d):
    s.create(s.mkdir(d, b"full"), b"in")
    s.mkdir(d, b"empty")
    return words(s.rmdir(d, b"full"), s.rename(d, b"empty", d, b"full"), s.rename(d, b"full", d, b"empty"))


@check
def renaming_over_the_wrong_kind(s, d):
    kinds(s, d)
    return words(s.rename(d, b"file", d, b"dir"), s.rename(d, b"dir", d, b"file"), s.rename(d, b"link", d, b"file"), s.rename(d, b"none", d, b"file"))


@check
def a_folder_into_itself(s, d):
    a = s.mkdir(d, b"a")
    b = s.mkdir(a, b"b")
    return words(s.rename(d, b"a", a, b"x"), s.rename(d, b"a", b, b"x"), s.rename(d, b"a", d, b"a"))


@check
def a_rename_onto_another_name_of_the_file(s, d):
    f = s.create(d, b"f")
    s.link(f, d, b"g")
    return "%s %s %s" % (s.rename(d, b"f", d, b"g"), word(s.lookup(d, b"f")), word(s.lookup(d, b"g")))


@check
def hard_links(s, d):
    k = kinds(s, d)
    answers = words(s.link(k["dir"], d, b"x"), s.link(k["file"], d, b"link"), s.link(k["file"], d, b"l"), s.link(k["link"], d, b"m"))
    return "%s nlink %d" % (answers, s.getattr(k["file"])["nlink"])


@check
def special_files(s, d):
    made = [s.mknod(d, b"n%d" % k, k) for k in (BLOCK, CHARACTER, SOCKET, FIFO)]
    of_device = s.getattr(made[0])["rdev"]
    return "%s kinds %s rdev %x" % (words(*made), [s.getattr(m)["kind"] for m in made], of_device)


@check
def special_files_of_no_kind(s, d):
    return words(*[s.mknod(d, b"x%d" % k, k, b"") for k in (1, 2, 5, 0, 8)])


@check
def creating_over_what_is_there(s, d):
    kinds(s, d)
    out = []
    for name in (b"file", b"dir", b"link"):
        out += [s.create(d, name, how=0), s.create(d, name, how=1), s.exclusive(d, name, 7), s.mkdir(d, name), s.symlink(d, name, b"t")]
    return words(*out)


# Names.

@check
def no_name(s, d):
    return words(s.lookup(d, b""), s.create(d, b""), s.mkdir(d, b""), s.remove(d, b""), s.rmdir(d, b""), s.rename(d, b"", d, b"x"))


@check
def dots(s, d):
    s.create(d, b"f")
    out = []
    for dot in (b".", b".."):
        out += [s.lookup(d, dot), s.create(d, dot), s.mkdir(d, dot), s.symlink(d, dot, b"t"), s.remove(d, dot), s.rmdir(d, dot), s.rename(d, b"f", d, dot), s.rename(d, dot, d, b"g")]
    return words(*out)


@check
def a_slash_or_nothing_in_a_name(s, d):
    return words(*[f(d, n) for n in (b"a/b", b"a\0b") for f in (s.lookup, s.create, s.mkdir, s.remove)])


@check
def long_names(s, d):
    out = []
    for n in (255, 256, 1000):
        out += [s.create(d, b"n" * n), s.lookup(d, b"n" * n), s.mkdir(d, b"d" * n), s.remove(d, b"n" * n)]
    return words(*out)


@check
def names_of_any_bytes(s, d):
    names = [b"\xd0\xe9", b"\xff\xfe", "é中".encode(), b" ", b"\n", b"-rf", b"*"]
    made = [s.create(d, n) for n in names]
    listed = s.readdir(d)[0]
    return "%s %s" % (words(*made), all(n in listed for n in names))


@check
def targets_of_links(s, d):
    out = []
    for i, t in enumerate((b"t" * 1000, b"t" * 4095, b"t" * 4096, b"t" * 4097)):
        f = s.symlink(d, b"l%d" % i, t)
        out.append(word(f) if isinstance(f, str) else "OK" if s.readlink(f) == t else "another")
    return " ".join(out)


@check
def an_empty_target(s, d):
    return words(s.symlink(d, b"l", b""))


# Credentials and calls.

@check
def credentials_of_other_flavours(s, d):
    return words(*[s.nfs(1, opaque(d), flavour=f)[0] for f in (0, 1, 2, 3, 6, 400_000)])


@check
def programs_versions_and_procedures(s, d):
    return words(s.call(NFS, 22, b"")[0], s.call(NFS, 1, opaque(d), version=4)[0], s.call(NFS, 1, opaque(d), version=2)[0], s.call(NFS, 0, b"", ask=100_099)[0], s.call(NFS, 0, b"")[0])


@check
def arguments_that_are_cut_off(s, d):
    return words(s.call(NFS, 1, b"")[0], s.call(NFS, 1, b"\0\0\0\x20abcd")[0], s.call(NFS, 3, opaque(d))[0], s.call(NFS, 1, opaque(b"x" * 65))[0])


@check
def handles_of_nobody(s, d):
    return words(s.getattr(b""), s.getattr(b"x" * 32), s.lookup(b"x" * 20, b"a"))


# Permissions: 1000 and 1001 are people, 0 is root.

@check
def a_file_of_somebody_else(s, d):
    f = s.create(d, b"f", mode=0o600)
    out = [s.read(f, 0, 1, **OTHER), s.write(f, 0, b"x", **OTHER), s.setattr(f, as_=OTHER, mode=0o666), s.setattr(f, as_=OTHER, uid=1000), s.setattr(f, as_=OTHER, size=0), s.setattr(f, as_=OTHER, mtime="now"), s.setattr(f, as_=OTHER, mtime=(1, 1))]
    return words(*out)


@check
def a_file_that_others_may_write(s, d):
    f = s.create(d, b"f", mode=0o666)
    out = [s.write(f, 0, b"x", **OTHER), s.setattr(f, as_=OTHER, mtime="now"), s.setattr(f, as_=OTHER, mtime=(1, 1)), s.setattr(f, as_=OTHER, size=0), s.setattr(f, as_=OTHER, mode=0o777)]
    return words(*out)


@check
def a_folder_of_somebody_else(s, d):
    e = s.mkdir(d, b"e", mode=0o755)
    s.create(e, b"in")
    out = [s.create(e, b"x", as_=OTHER), s.mkdir(e, b"x", as_=OTHER), s.symlink(e, b"x", b"t", as_=OTHER), s.remove(e, b"in", **OTHER), s.rename(e, b"in", e, b"out", **OTHER), s.link(s.lookup(e, b"in"), e, b"l", **OTHER), s.create(e, b"in", how=0, as_=OTHER), s.create(e, b"in", how=1, as_=OTHER)]
    return words(*out)


@check
def a_folder_that_is_closed(s, d):
    e = s.mkdir(d, b"e", mode=0o700)
    s.create(e, b"in", mode=0o644)
    closed = [s.lookup(e, b"in", **OTHER), s.readdir(e, **OTHER), s.create(e, b"x", as_=OTHER)]
    s.setattr(e, mode=0o711)
    passed = [s.lookup(e, b"in", **OTHER), s.readdir(e, **OTHER)]
    s.setattr(e, mode=0o744)
    listed = [s.lookup(e, b"in", **OTHER), s.readdir(e, **OTHER)]
    return words(*closed + passed + listed)


@check
def a_file_to_be_run_is_read(s, d):
    f = s.create(d, b"f", mode=0o711)
    s.write(f, 0, b"#!")
    return words(s.read(f, 0, 2, **OTHER), s.write(f, 0, b"x", **OTHER))


@check
def an_owner_without_rights(s, d):
    s.setattr(d, mode=0o777)
    f = s.create(d, b"f", as_=OTHER, mode=0o000)
    return words(s.read(f, 0, 1, **OTHER), s.write(f, 0, b"x", **OTHER), s.setattr(f, as_=OTHER, size=0), s.read(f, 0, 1, **THIRD))


@check
def groups_of_a_caller(s, d):
    f = s.create(d, b"f", mode=0o060)
    s.setattr(f, uid=5, gid=77)
    return words(s.read(f, 0, 1, **OTHER), s.read(f, 0, 1, uid=1000, gid=1000, groups=(3, 77)), s.read(f, 0, 1, uid=1000, gid=77), s.write(f, 0, b"x", uid=1000, groups=tuple(range(62, 78))))


@check
def a_sticky_folder(s, d):
    e = s.mkdir(d, b"e", mode=0o1777)
    s.create(e, b"f", as_=OTHER, mode=0o666)
    return words(s.remove(e, b"f", **THIRD), s.rename(e, b"f", e, b"g", **THIRD), s.remove(e, b"f", **OTHER))


@check
def rights_that_are_told(s, d):
    f, e = s.create(d, b"f", mode=0o754), s.mkdir(d, b"e", mode=0o754)
    group = dict(uid=1000, gid=0)
    return " ".join("%x" % s.access(x, **who) for x in (f, e) for who in (dict(uid=0), group, OTHER))


@check
def a_setuid_file_that_others_write(s, d):
    out = []
    for mode in (0o4777, 0o2777, 0o2767, 0o6777):
        f = s.create(d, b"f%o" % mode, mode=mode)
        s.setattr(f, mode=mode)
        s.write(f, 0, b"x", **OTHER)
        out.append("%o" % s.getattr(f)["mode"])
    return " ".join(out)


@check
def a_setuid_file_that_is_given_away(s, d):
    f = s.create(d, b"f")
    s.setattr(f, mode=0o6755)
    s.setattr(f, uid=1000)
    by_root = s.getattr(f)["mode"]
    s.setattr(f, mode=0o6755)
    s.setattr(f, as_=OTHER, gid=1000)
    return "%o %o" % (by_root, s.getattr(f)["mode"])


@check
def a_group_that_is_not_the_callers(s, d):
    s.setattr(d, mode=0o777)
    f = s.create(d, b"f", as_=OTHER, mode=0o644)
    out = [s.setattr(f, as_=OTHER, gid=55), s.setattr(f, as_=dict(uid=1000, gid=1000, groups=(55,)), gid=55), s.setattr(f, as_=OTHER, uid=1000), s.setattr(f, as_=OTHER, mode=0o2755)]
    after = s.getattr(f)
    return "%s mode %o gid %d" % (words(*out), after["mode"], after["gid"])


@check
def a_setgid_folder(s, d):
    e = s.mkdir(d, b"e")
    s.setattr(e, gid=66, mode=0o2777)
    f, g = s.create(e, b"f", as_=OTHER, mode=0o644), s.mkdir(e, b"g", as_=OTHER, mode=0o755)
    a, b = s.getattr(f), s.getattr(g)
    return "%d %o %d %o" % (a["gid"], a["mode"], b["gid"], b["mode"])


@check
def owners_that_a_caller_asks_for(s, d):
    s.setattr(d, mode=0o777)
    by_other = s.create(d, b"f", as_=OTHER, uid=5, mode=0o644)
    by_root = s.getattr(s.create(d, b"g", uid=5, gid=6, mode=0o600))
    return "%s; root: %d %d %o" % (by_other if isinstance(by_other, str) else s.getattr(by_other)["uid"], by_root["uid"], by_root["gid"], by_root["mode"])


@check
def devices_by_others(s, d):
    s.setattr(d, mode=0o777)
    return words(s.mknod(d, b"b", BLOCK, as_=OTHER), s.mknod(d, b"p", FIFO, as_=OTHER))


# Listings.

@check
def a_listing_in_parts(s, d):
    names = [b"name-%03d" % i for i in range(200)]
    for n in names:
        s.create(d, n)
    found, cookie, calls = [], 0, 0
    while calls < 300:
        some, cookies, end, verifier = s.readdir(d, cookie, 600)
        found += some
        calls += 1
        if end:
            break
        cookie = cookies[-1]
    return "%s once %s, in parts %s" % (sorted(found) == sorted(names + [b".", b".."]), len(set(found)) == len(found), calls > 5)


@check
def a_listing_while_names_go(s, d):
    names = [b"n%02d" % i for i in range(60)]
    for n in names:
        s.create(d, n)
    some, cookies, _, verifier = s.readdir(d, 0, 600)
    for n in some:
        if n not in (b".", b".."):
            s.remove(d, n)
    rest = s.readdir(d, cookies[-1], 8192, verifier)
    return rest if isinstance(rest, str) else str(set(names) - set(some) == set(rest[0]))


@check
def a_listing_without_room(s, d):
    s.create(d, b"x" * 200)
    return words(s.readdir(d, 0, 0), s.readdir(d, 0, 8), s.readdirplus(d, 0, 8, 8))


@check
def a_listing_with_attributes(s, d):
    f = s.create(d, b"f")
    s.write(f, 0, b"12345")
    s.mkdir(d, b"e")
    entries, end = s.readdirplus(d)
    handles = entries[b"f"][1] in (None, f)
    return "%s end %s handles %s kinds %s" % (sorted(entries), end, handles, [a["kind"] for n, (a, _) in sorted(entries.items()) if a and n == b"e"])


@check
def a_folder_that_is_gone(s, d):
    e = s.mkdir(d, b"e")
    s.rmdir(d, b"e")
    return words(s.readdir(e), s.getattr(e), s.create(e, b"x"), s.lookup(e, b"."))


# Times.

@check
def nanoseconds(s, d):
    f = s.create(d, b"f", atime=(1_000_000_001, 123_456_789), mtime=(1_000_000_002, 999_999_999))
    a = s.getattr(f)
    s.setattr(f, atime=(7, 1))
    b = s.getattr(f)
    return "%s %s, %s %s" % (a["atime"], a["mtime"], b["atime"], b["mtime"])


@check
def times_that_move(s, d):
    """Which times of a folder and a file each call moves."""
    import time
    e = s.mkdir(d, b"e")
    f = s.create(e, b"f")
    g = s.mkdir(d, b"g")
    out = []

    def moved(what, call):
        before = [s.getattr(x) for x in (e, f, g)]
        time.sleep(0.02)
        answer = call()
        after = [s.getattr(x) for x in (e, f, g)]
        names = []
        for name, a, b in zip("efg", before, after):
            if isinstance(b, str):
                continue
            changed = "".join(t[0] for t in ("mtime", "ctime") if a[t] != b[t])
            if changed:
                names.append(name + changed)
        out.append("%s %s %s" % (what, word(answer), "+".join(names)))
    moved("write", lambda: s.write(f, 0, b"x"))
    moved("chmod", lambda: s.setattr(f, mode=0o640))
    moved("size", lambda: s.setattr(f, size=50))
    moved("same size", lambda: s.setattr(f, size=50))
    moved("link", lambda: s.link(f, g, b"l"))
    moved("rename", lambda: s.rename(e, b"f", e, b"h"))
    moved("move", lambda: s.rename(e, b"h", g, b"h"))
    moved("unlink", lambda: s.remove(g, b"l"))
    moved("mkdir", lambda: s.mkdir(e, b"m"))
    moved("rmdir", lambda: s.rmdir(e, b"m"))
    moved("chown", lambda: s.setattr(f, uid=0))
    return "; ".join(out)


@check
def links_of_folders(s, d):
    e = s.mkdir(d, b"e")
    first = s.getattr(e)["nlink"]
    s.mkdir(e, b"a")
    s.mkdir(e, b"b")
    s.create(e, b"f")
    full = s.getattr(e)["nlink"]
    s.rename(e, b"a", d, b"a")
    s.rmdir(e, b"b")
    return "%d %d %d" % (first, full, s.getattr(e)["nlink"])


# Bytes.

@check
def counts_of_writes(s, d):
    f = s.create(d, b"f")
    out = [s.write(f, 0, b"abc", count=2), s.write(f, 0, b"abc", count=4), s.write(f, 0, b"abc", stable=3)]
    size = s.getattr(f)["size"]
    zero = s.write(f, 0, b"")
    return "%s size %d; nothing: %s" % (words(*out), size, zero[0] if isinstance(zero, tuple) else zero)


@check
def a_write_is_as_stable_as_asked(s, d):
    f = s.create(d, b"f")
    return " ".join(str(s.write(f, 0, b"abc", stable=n)[1] >= n) for n in (0, 1, 2))


@check
def reads_at_the_end(s, d):
    f = s.create(d, b"f")
    s.write(f, 0, b"0123456789")
    return " ".join("%s" % (s.read(f, o, n),) for o, n in ((0, 10), (0, 9), (5, 5), (10, 1), (100, 1), (0, 0), (3, 100), (10, 0)))


@check
def a_hole(s, d):
    f = s.create(d, b"f")
    s.write(f, 1 << 30, b"end")
    a = s.getattr(f)
    return "size %d, zeros %s, used below 1 MiB: %s" % (a["size"], s.read(f, 4096, 100) == (b"\0" * 100, False), a["used"] < MIB)


@check
def space_that_a_file_takes(s, d):
    f = s.create(d, b"f")
    empty = s.getattr(f)["used"]
    s.setattr(f, size=100 << 30)
    sparse = s.getattr(f)["used"]
    s.write(f, 5 << 30, b"x" * 65536)
    a = s.getattr(f)["used"]
    s.setattr(f, size=0)
    return "%d %d, after 64 KiB: at least that %s, at most 1 MiB more %s; cut off: %d" % (empty, sparse, a >= 65536, a <= MIB + 65536, s.getattr(f)["used"])


@check
def beyond_the_largest_file(s, d):
    f = s.create(d, b"f")
    code, r = s.nfs(FSINFO, opaque(f))
    return words(s.write(f, (1 << 63) - 1, b"xx"), s.write(f, (1 << 64) - 1, b"xx"), s.setattr(f, size=1 << 63), s.setattr(f, size=(1 << 64) - 1), s.read(f, (1 << 64) - 1, 10), s.read(f, (1 << 63) - 1, 10))


@check
def a_size_that_shrinks_and_grows(s, d):
    f = s.create(d, b"f")
    s.write(f, 0, b"a" * 10000)
    s.setattr(f, size=5000)
    s.setattr(f, size=8000)
    return "%s" % (s.read(f, 4998, 5),)


# Exclusive and other creation.

@check
def exclusive_creation(s, d):
    first, again, other = s.exclusive(d, b"f", 77), s.exclusive(d, b"f", 77), s.exclusive(d, b"f", 78)
    same = first == again
    s.write(first, 0, b"x")
    written = s.exclusive(d, b"f", 77)
    zero = s.exclusive(d, b"z", 0)
    return "%s same %s, other %s, written %s, zero %s %s" % (word(first), same, word(other), word(written), word(zero), word(s.exclusive(d, b"z", 0)))


@check
def an_exclusive_file_whose_times_were_set(s, d):
    f = s.exclusive(d, b"f", 77)
    s.setattr(f, mode=0o600, mtime=(5, 5), atime=(5, 5))
    return words(s.exclusive(d, b"f", 77))


@check
def a_file_that_is_opened_to_be_emptied(s, d):
    f = s.create(d, b"f", mode=0o640)
    s.write(f, 0, b"x" * 50)
    kept = s.create(d, b"f", how=0, mode=0o777)
    size_kept = s.getattr(f)["size"]
    emptied = s.create(d, b"f", how=0, mode=0o777, size=0)
    a = s.getattr(f)
    return "%s %s %d, %s %d, mode %o" % (kept == f, word(kept), size_kept, emptied == f, a["size"], a["mode"])


@check
def what_was_removed(s, d):
    f = s.create(d, b"f")
    s.write(f, 0, b"x")
    s.remove(d, b"f")
    return words(s.write(f, 0, b"y"), s.read(f, 0, 1), s.getattr(f), s.setattr(f, size=0), s.commit(f), s.setattr(f, mode=0o600))


@check
def what_was_replaced(s, d):
    f, g = s.create(d, b"f"), s.create(d, b"g")
    s.write(f, 0, b"x")
    s.write(g, 0, b"y")
    s.rename(d, b"g", d, b"f")
    return "%s %s" % (words(s.write(f, 0, b"z"), s.read(f, 0, 1)), s.read(g, 0, 1))


@check
def what_has_another_name(s, d):
    f = s.create(d, b"f")
    s.link(f, d, b"g")
    s.remove(d, b"f")
    return "%s nlink %d" % (words(s.write(f, 0, b"y"), s.read(f, 0, 1)), s.getattr(f)["nlink"])


# The file system.

@check
def space_of_the_file_system(s, d):
    code, r = s.nfs(FSSTAT, opaque(d))
    r.post()
    total, free, available, files, free_files, available_files = (r.u64() for _ in range(6))
    return "%s %s %s" % (code, total >= free >= available > 0, files >= free_files >= available_files > 0)


@check
def limits_of_the_file_system(s, d):
    code, r = s.nfs(FSINFO, opaque(d))
    r.post()
    rtmax, rtpref, rtmult, wtmax, wtpref, wtmult, dtpref = (r.u32() for _ in range(7))
    largest, delta, properties = r.u64(), (r.u32(), r.u32()), r.u32()
    return "%s %s %s properties %x" % (code, rtmax >= rtpref >= rtmult > 0 and wtmax >= wtpref >= wtmult > 0, largest >= 1 << 40, properties)


@check
def what_paths_may_be(s, d):
    code, r = s.nfs(PATHCONF, opaque(d))
    r.post()
    links, names = r.u32(), r.u32()
    return "%s links %s names %d, no truncation %d, chown restricted %d, case %d %d" % (code, links > 1, names, r.u32(), r.u32(), r.u32(), r.u32())


@check
def attributes_of_a_new_file(s, d):
    f = s.getattr(s.create(d, b"f", mode=0o640))
    e = s.getattr(s.mkdir(d, b"e", mode=0o750))
    l = s.getattr(s.symlink(d, b"l", b"12345"))
    return "%d %o %d %d; %d %o; %d %d" % (f["kind"], f["mode"], f["nlink"], f["size"], e["kind"], e["mode"], l["kind"], l["size"])


@check
def calls_over_two_file_systems_or_none(s, d):
    bad = opaque(b"x" * 32)
    return words(s.nfs(RENAME, opaque(d), opaque(b"a"), bad, opaque(b"b"))[0], s.nfs(LINK, bad, opaque(d), opaque(b"b"))[0])


@check
def paths_of_mounts(s, d):
    """Beside the path itself: only what is no path of an export at all, since spellings are refused on purpose."""
    return words(*[s.call(MOUNT, 1, opaque(p))[0] for p in (b"/never", b"", b"/checked-not")])
