#!/usr/bin/env python3
"""pjdfstest and cthon04 (basic, general, special, lock) by the kernel client, and in the same guest on ext4.

  nfs_suites.py                    all of it; in an emulated machine the whole of pjdfstest takes over an hour
  nfs_suites.py --part 2/6         every sixth test file of pjdfstest, beginning with the second; cthon04 with the first part
  nfs_suites.py cthon04 | REGEX    cthon04 alone, or the test files of pjdfstest with such a name: `chmod/|link/`
  nfs_suites.py cthon04/lock       one of cthon04's parts: basic, special, lock, general

What fails on the datastore and not on ext4 has to be exactly what nfs_suites.txt accepts, with a reason each: anything else fails
the lab, and so does a line of the list that is not true any more. The sources are not ours: tests/lab/cache/pjdfstest and
tests/lab/cache/cthon04, or they are cloned (`PJDFSTEST_SOURCE`, `CTHON04_SOURCE` name other places).
All of it in a network namespace of its own: the virtual machines and the cluster on one bridge."""
import argparse, os, re, shutil, subprocess, sys, tempfile

if os.environ.get("TRIVET_SUITES_INSIDE") != "1":
    os.environ["TRIVET_SUITES_INSIDE"] = "1"
    sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
    import cluster
    cluster.prepare()
    import nfs_suites_sources
    nfs_suites_sources.prepare()
    inside = "ip link set lo up; mount -t tmpfs tmpfs /run; exec \"$@\""
    os.execvp("unshare", ["unshare", "--net", "--mount", "sh", "-c", inside, "sh", sys.executable] + sys.argv)

from cluster import HERE, TRIVET, Cluster, Guest  # noqa: E402
from nfs_suites_sources import CTHON_TAR, PJD_TAR, TOOLS_TAR  # noqa: E402

SERVER = "10.70.0.70"
ACCEPTED = os.path.join(HERE, "nfs_suites.txt")
# A test file of pjdfstest has ended after this, or hangs.
FILE_LIMIT_S = 240
# A guest has ended after this, or hangs.
LIMIT_S = 7000
PJDFSTEST = r"""
also() { mkdir -p $2; mount -t nfs -o "addr=$NFS_SERVER,$NFS_OPTS" "$NFS_SERVER:$1" $2 || echo FAIL mount $1; }
also /checked /checked; mkdir /t /ext4; mount -t ext4 /dev/vda /ext4 || echo FAIL ext4
cd /t; tar xf /files/pjdfstest.tar
printf '#!/bin/sh\nmd5sum | cut -c1-32\n' > /bin/openssl; chmod +x /bin/openssl
printf 'os=Linux\nGREP=grep\nfs=EXT4\nmountpoint=/\n' > tests/conf
one() {
    mkdir $1/w; cd $1/w; timeout %d sh /t/tests/$2 > /tmp/out.$3 2>/dev/null; code=$?
    planned=$(sed -n 's/^1\.\.//p' /tmp/out.$3 | head -1); told=$(grep -cE '^(not )?ok' /tmp/out.$3)
    [ $code = 143 ] && echo "N $3 $2 hangs"
    [ "${planned:-none}" = $told ] || echo "N $3 $2 tells of $told tests of ${planned:-none}"
    grep '^not ok' /tmp/out.$3 | grep -v TODO | sed "s|^not ok|N $3 $2|"
    cd /; rm -rf $1/w; echo "T $3 $2 $told"
}
for t in $(cd /t/tests; ls */*.t | grep -E '%s' | awk '(NR - 1) %% %d == %d'); do
    one /checked $t trivet; one /ext4 $t ext4
done
echo END
""" 
CTHON = r"""
mkdir /t /ext4; mount -t ext4 /dev/vda /ext4 || echo FAIL ext4
cd /; tar xf /files/tools.tar; rm /files/tools.tar; cd /t; tar xf /files/cthon04.tar
ln -sf /bin/busybox /usr/bin/time
grep ' /mnt ' /proc/mounts | grep -q 'local_lock=none' || echo FAIL the mount has no locks of the server
run() {
    cd /t/cthon04; NFSTESTDIR=$2/t sh ./runtests $3 -t > /tmp/out 2>&1; code=$?
    [ $code = 0 ] && grep -q 'All tests completed' /tmp/out || { echo "N $1 cthon04 $4: status $code"; tail -15 /tmp/out | sed 's/^/     /'; }
    grep -iE 'error|fail|cannot|FAIL' /tmp/out | sort | uniq -c | head -20 | sed "s|^ *|L $1 $4 |"
    rm -rf $2/t; echo "T $1 cthon04 $4"
}
for part in "-b basic" "-s special" "-l lock" "-g general"; do
    set -- $part
    case $2 in %s) ;; *) continue;; esac
    run ext4 /ext4 $1 $2; run trivet /mnt $1 $2
done
dmesg | grep -iE "i/o error|stale" && echo FAIL the kernel saw errors
echo END
"""


def ip(*args):
    subprocess.check_call(["ip"] + list(args))


def start(script, number, files, mem, folder):
    tap = "t%d" % number
    ip("tuntap", "add", tap, "mode", "tap")
    ip("link", "set", tap, "master", "br0", "up")
    image = os.path.join(folder, tap + ".ext4")
    with open(image, "wb") as f:
        f.truncate(6 << 30)
    subprocess.check_call(["mke2fs", "-q", "-t", "ext4", "-F", image])
    return Guest(script, files=files, server=SERVER, timeout=LIMIT_S + 200, mem=mem, options=[
        "--no-ports", "--locks", "--disk", image, "--net", "tap:%s,10.70.0.1%d/24" % (tap, number), "--hostname", "guest%d" % number])


def failures(guest, of):
    """The tests that failed there, as `test number`: what the suite says of it."""
    found = {}
    for _, line in guest.lines:
        m = re.match(r"N %s (\S+ \S+?):?( .*)?$" % of, line)
        if m:
            found[m.group(1)] = (m.group(2) or "").strip(" -")
    return found


def accepted():
    """`test number  # reason`, a line each."""
    rows = {}
    for line in open(ACCEPTED):
        text, _, reason = line.partition("#")
        if text.strip():
            rows[text.strip()] = reason.strip()
    assert all(rows.values()), "a line of %s has no reason" % ACCEPTED
    return rows


def judge(guests):
    ran = {l.split()[2] for g in guests for _, l in g.lines if l.startswith("T trivet ")}
    assert ran, "no test has run"
    here, beside = {}, {}
    for g in guests:
        here.update(failures(g, "trivet"))
        beside.update(failures(g, "ext4"))
    tests = sum(int(l.split()[3]) for g in guests for _, l in g.lines if l.startswith("T trivet ") and l.split()[3].isdigit())
    rows = {k: v for k, v in accepted().items() if k.split()[0] in ran}
    new = sorted(k for k in here if k not in beside and k not in rows)
    gone = sorted(k for k in rows if k not in here or k in beside)
    print("%d checks of pjdfstest; %d fail on the datastore, %d on ext4 beside it; %d differences are accepted" % (tests, len(here), len(beside), len(rows)))
    for k in sorted(beside):
        print("  on ext4, too: %s %s" % (k, beside[k]))
    for k in new:
        print("  not accepted: %s %s" % (k, here[k]))
    for k in gone:
        print("  accepted, and not true any more: %s" % k)
    assert not new and not gone, "the differences are not those of %s" % ACCEPTED


def main(only, part, parts):
    ip("link", "add", "br0", "type", "bridge")
    ip("link", "set", "br0", "up")
    for last in (71, 72, 73):
        ip("addr", "add", "10.70.0.%d/24" % last, "dev", "br0")
    folder = tempfile.mkdtemp(prefix="trivet-suites.")
    guests = []
    try:
        with Cluster("--base-address", SERVER) as c:
            made = subprocess.run([TRIVET, "datastore", "--data", c.data, "create", "checked", "--permissions", "checked"], capture_output=True, text=True)
            assert made.returncode == 0, made.stderr
            todo = []
            cthon, _, part_of_cthon = (only or "").partition("/")
            if cthon != "cthon04":
                script = PJDFSTEST % (FILE_LIMIT_S, only or ".", parts, part - 1)
                todo.append((script, 1, [PJD_TAR], 512))
            if cthon == "cthon04" or only is None and part == 1:
                todo.append((CTHON % (part_of_cthon or "*"), 2, [CTHON_TAR, TOOLS_TAR], 1536))
            # The parts run one after the other: each emulated machine takes a processor.
            for script, number, files, mem in todo:
                guests.append(start(script, number, files, mem, folder))
                guests[-1].wait_for("END", LIMIT_S)
                guests[-1].end()
            if os.environ.get("SUITES_LINES"):
                print("\n".join(l for g in guests for _, l in g.lines))
            for g in guests:
                for _, line in g.lines:
                    if line.startswith("L "):
                        print(" ", line[2:])
            judge(guests)
    finally:
        for g in guests:
            if g.process.poll() is None:
                g.process.terminate()
        shutil.rmtree(folder, ignore_errors=True)


def arguments():
    p = argparse.ArgumentParser()
    p.add_argument("only", nargs="?")
    p.add_argument("--part", default="1/1")
    given = p.parse_args()
    part, parts = (int(n) for n in given.part.split("/"))
    assert 1 <= part <= parts, "a part is 1/%d to %d/%d" % (parts, parts, parts)
    return given.only, part, parts


if __name__ == "__main__":
    main(*arguments())
