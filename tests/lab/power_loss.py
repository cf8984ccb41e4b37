#!/usr/bin/env python3
"""Power loss: all three nodes run inside one virtual machine on its disk, which QEMU writes past the page cache.
A kernel NFS client in the same machine writes synced records, acknowledgements are recorded outside, and QEMU
is killed with SIGKILL, twice (or as often as the argument says). Nothing acknowledged may be missing after the
next start."""
import os, shutil, signal, subprocess, sys, tempfile, threading
from cluster import CACHE, HERE, TRIVET, build, prepare

SCRIPT = """
echo WHICH; read last
if [ "$last" = new ]; then /usr/bin/mke2fs -q -E lazy_itable_init=1 -F -t ext4 /dev/vda || { echo FAIL mkfs; exit 1; }; fi
mkdir -p /d /n; mount -t ext4 /dev/vda /d || { echo FAIL mount of the disk; exit 1; }
cat > /work.sh <<'W'
mount -t nfs -o vers=3,tcp,nolock,port=2049,mountport=2049,mountproto=tcp,addr=127.0.0.70 127.0.0.70:/ds1 /n || { echo FAIL mount; exit 1; }
echo MOUNTED
if [ "$LAST" != new ]; then /files/diskload verify /n $LAST || exit 1; first=$((LAST+1)); else first=0; fi
/files/diskload write /n 1000 $first
W
LAST=$last /usr/bin/trivet up --data /d/t --exec 'sh /work.sh' 2>&1
echo FAIL ended
"""
ROUNDS = int(sys.argv[1]) if len(sys.argv) > 1 else 2


def main():
    prepare()
    program = os.path.join(CACHE, "trivet")
    subprocess.check_call(["strip", "-o", program, TRIVET])
    folder = tempfile.mkdtemp(prefix="trivet-power.")
    disk, script = os.path.join(folder, "disk"), os.path.join(folder, "script")
    subprocess.check_call(["truncate", "-s", "3G", disk])
    with open(script, "w") as f:
        f.write(SCRIPT)
    last, total, verified = "new", 0, 0
    for n in range(ROUNDS + 1):
        command = [os.path.join(HERE, "nfs_guest.py"), "run", "--no-mount", "--disk", disk, "--script", script, "--stdin",
                   "--file", build("diskload"), "--bin", program, "--bin", "mke2fs", "--mem", "2048", "--cpus", "2", "--timeout", "240"]
        p = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                             text=True, start_new_session=True)
        acked, done = [], threading.Event()
        lines = []

        def read():
            nonlocal verified
            for line in p.stdout:
                lines.append(line.rstrip())
                if line.startswith("WHICH"):
                    p.stdin.write("%s\n" % last)
                    p.stdin.flush()
                if line.startswith("ACK "):
                    acked.append(int(line.split()[1]))
                    if len(acked) >= 1 + 23 * (n % 5):  # soon after the start, and later
                        done.set()
                if line.startswith("VERIFIED"):
                    verified += 1
                    if n == ROUNDS:
                        done.set()
                if line.startswith("FAIL"):
                    done.set()
            done.set()

        reader = threading.Thread(target=read, daemon=True)
        reader.start()
        done.wait(240)
        # QEMU is a child in a session of its own.
        for pid in subprocess.run(["pgrep", "-f", disk], capture_output=True, text=True).stdout.split():
            if open("/proc/%s/comm" % pid).read().startswith("qemu"):
                os.kill(int(pid), signal.SIGKILL)
        p.wait(30)
        reader.join(10)
        failed = [l for l in lines if l.startswith("FAIL")]
        assert not failed, (n, failed, lines[-15:])
        if n < ROUNDS:
            assert acked, (n, lines[-20:])
            last = max(acked)
            total += len(acked)
    assert verified == ROUNDS, "%d verifications in %d rounds; %s" % (verified, ROUNDS, lines[-15:])
    print("%d power losses, %d records acknowledged, after each loss all of the last 4096 were there" % (ROUNDS, total))
    shutil.rmtree(folder)


main()
