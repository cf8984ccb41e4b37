#!/usr/bin/env python3
r"""nfs-guest: run a test script on a REAL Linux kernel NFS client, in a throw-away VM.

Boots Debian's cloud kernel (direct boot, a few MiB of initramfs: busybox-static +
the nfs/sunrpc/lockd/virtio modules) under QEMU, mounts an NFS export of a server
that runs on this machine, runs a shell script inside the guest with the mount as
its working directory, and returns the script's output and exit status.

  nfs-guest prepare                          # once: fetch kernel, build initramfs
  nfs-guest run --server 127.0.0.1 --port 2049 --mount-port 20048 \
                --export /exp --script t.sh

Networks (--net):
  slirp   (default) no privileges; the guest reaches this machine's loopback only,
          through one TCP forward per port (restrict=on + guestfwd to forward.c): nothing
          else of this machine or of the internet is reachable.
  slirp-open  plain slirp; the host's 127.0.0.1 is 10.0.2.2 in the guest. Needed when
          ports are not known in advance (NLM by portmap). The guest could reach
          beyond this machine; nothing in it tries to.
  tap:IF,GUESTADDR/PREFIX[,GW]   an existing tap device, e.g. on a bridge inside a
          network namespace that also holds the cluster's nodes (use with --netns):
          the way to test floating IPs (real ARP, real TCP resets).

Exit status: the script's own (0..123), 124 time-out, 125 this tool failed (QEMU or
kernel did not come up), 126 the mount failed.
The script sees: $NFS_SERVER $NFS_EXPORT $NFS_OPTS, $MNT (= /mnt), busybox's applets,
/files/<name> for each --file, and every --bin (with its shared libraries) on $PATH.
`mnt [opts] [dir]` mounts again; `umnt [dir]` unmounts. stdin of this tool is the
script's stdin, so a harness can step the guest: script prints READY and `read`s.
"""
import argparse, gzip, io, os, re, shutil, signal, stat, subprocess, sys, tempfile, threading, time

CACHE = os.environ.get("NFS_GUEST_CACHE", os.path.expanduser("~/.cache/nfs-guest"))
MODS = ["crc32c_generic", "ext4", "virtio_pci", "virtio_net", "virtio_blk", "virtio_rng", "nfsv3", "nfsv4", "lockd", "loop"]
MARK = "\x01NFS-GUEST-EXIT "

INIT = r'''#!/bin/sh
export PATH=/bin:/sbin:/usr/bin:/usr/sbin:/files HOME=/ LANG=C
/bin/busybox --install -s /bin
mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev 2>/dev/null
mkdir -p /dev/pts /run /tmp /mnt /var/lib/nfs/sm /var/lib/nfs/sm.bak; mount -t tmpfs tmp /tmp; mount -t tmpfs run /run
mkdir -p /run/rpcbind /run/lock; ln -sfn /run /var/run
exec </dev/ttyS1 >/dev/ttyS1 2>&1
stty -F /dev/ttyS1 raw -echo 2>/dev/null
up() { cut -d' ' -f1 /proc/uptime; }
bye() { printf '\001NFS-GUEST-EXIT %s %s %s\n' "$1" "$T_MOUNT" "$(up)"; sync; sleep 0.05; reboot -f; }
. /conf
for m in $(cat /modules.order); do case $m in nfsv4.ko|dns_resolver.ko|virtio_blk.ko) [ -n "$ALLMODS" ] || continue;; esac; insmod /modules/$m 2>/dev/null; done
n=0; while [ ! -e /sys/class/net/eth0 ] && [ $n -lt 200 ]; do sleep 0.01; n=$((n+1)); done
ip link set lo up; ip link set eth0 up; ip addr add $ADDR dev eth0; [ -n "$GW" ] && ip route add default via $GW
hostname $HOSTN
[ -n "$MTU" ] && ip link set eth0 mtu $MTU
if [ -n "$LOCKS" ]; then
  rpcbind -w 2>/dev/null || rpcbind; rpc.statd --no-notify 2>&1 | grep -v '^$'
fi
cat > /bin/mnt <<'E'
#!/bin/sh
. /conf
o=$NFS_OPTS; [ -n "$1" ] && o=$o,$1; d=${2:-/mnt}; mkdir -p $d
exec mount -t $FSTYPE -o "addr=$NFS_SERVER,$o" "$NFS_SERVER:$NFS_EXPORT" $d
E
printf '#!/bin/sh\nexec umount "$@" ${1:-/mnt}\n' > /bin/umnt; printf '#!/bin/sh\nexec umount ${1:-/mnt}\n' > /bin/umnt
chmod +x /bin/mnt /bin/umnt
export NFS_SERVER NFS_EXPORT NFS_OPTS MNT=/mnt
T_MOUNT=-
if [ -z "$NOMOUNT" ]; then mnt || { echo "nfs-guest: mount failed:"; dmesg | tail -5; bye 126; }; cd /mnt; fi
T_MOUNT=$(up)
sh /script; rc=$?
cd /; umount -f -l /mnt 2>/dev/null
bye $rc
'''

def die(msg, rc=125):
    sys.stderr.write("nfs-guest: %s\n" % msg); sys.exit(rc)

class Cpio:
    """newc archive writer (so that no root, no cpio(1) and no temp tree are needed)."""
    def __init__(self): self.b = io.BytesIO(); self.ino = 1; self.seen = set()
    def _ent(self, name, mode, data=b"", rdev=(0, 0), nlink=1):
        n = name.encode() + b"\0"; self.ino += 1
        h = "070701" + "".join("%08x" % v for v in (self.ino, mode, 0, 0, nlink, 0, len(data), 0, 0, rdev[0], rdev[1], len(n), 0))
        self.b.write(h.encode() + n); self._pad(); self.b.write(data); self._pad()
    def _pad(self): self.b.write(b"\0" * (-self.b.tell() % 4))
    def dirs(self, path):
        parts = path.strip("/").split("/")[:-1]
        for i in range(1, len(parts) + 1):
            d = "/".join(parts[:i])
            if d not in self.seen: self.seen.add(d); self._ent(d, 0o040755, nlink=2)
    def mkdir(self, d): self.dirs(d.rstrip("/") + "/x")
    def file(self, name, data, mode=0o100644):
        name = name.lstrip("/"); self.dirs(name)
        if name in self.seen: return
        self.seen.add(name); self._ent(name, mode, data)
    def link(self, name, to): self.dirs(name); self.seen.add(name); self._ent(name, 0o120777, to.encode())
    def node(self, name, mode, maj, mnr): self.dirs(name); self._ent(name, mode, rdev=(maj, mnr))
    def done(self): self._ent("TRAILER!!!", 0); self.b.write(b"\0" * (-self.b.tell() % 512)); return self.b.getvalue()

def read(p):
    with open(p, "rb") as f: return f.read()

def latest_kernel_package():
    out = subprocess.run(["apt-cache", "depends", "linux-image-cloud-amd64"], capture_output=True, text=True).stdout
    m = re.search(r"Depends: (linux-image-\S+)", out)
    if not m: die("no linux-image-cloud-amd64 in apt's lists (apt-get update first)")
    return m.group(1)

def prepare(a):
    os.makedirs(CACHE, exist_ok=True)
    for t in ("qemu-system-x86_64",):
        if not shutil.which(t): die("%s not found: apt-get install --no-install-recommends qemu-system-x86" % t)
    bb = a.busybox or next((p for p in ("/bin/busybox", "/usr/bin/busybox") if os.path.exists(p)), None)
    if not bb or b"/ld-linux" in read(bb)[:4096]: die("a static busybox is needed: apt-get install busybox-static")
    deb = a.kernel_deb
    with tempfile.TemporaryDirectory(dir=CACHE) as td:
        if not deb:
            pkg = latest_kernel_package()
            print("fetching", pkg); subprocess.run(["apt-get", "download", "-qq", pkg], cwd=td, check=True, stderr=subprocess.DEVNULL)
            deb = os.path.join(td, next(f for f in os.listdir(td) if f.endswith(".deb")))
        x = os.path.join(td, "x"); subprocess.run(["dpkg-deb", "-x", deb, x], check=True)
        kv = os.listdir(os.path.join(x, "lib/modules"))[0]
        ko = {}
        for d, _, fs in os.walk(os.path.join(x, "lib/modules", kv)):
            for f in fs:
                m = re.match(r"(.+)\.ko(\.xz|\.zst)?$", f)
                if m: ko[m.group(1).replace("-", "_")] = os.path.join(d, f)
        order, c = [], Cpio()
        def raw(p):
            if p.endswith(".xz"): return subprocess.run(["xz", "-dc", p], capture_output=True, check=True).stdout
            if p.endswith(".zst"): return subprocess.run(["zstd", "-dcq", p], capture_output=True, check=True).stdout
            return read(p)
        def add(m):
            if m in order or m not in ko: return
            data = unsign(raw(ko[m])); dep = re.search(rb"\0depends=([^\0]*)\0", data)
            for d in (dep.group(1).decode().split(",") if dep and dep.group(1) else []): add(d.replace("-", "_"))
            if m not in order: order.append(m); c.file("modules/%s.ko" % m, data)
        for m in MODS: add(m)
        for d in ("proc", "sys", "dev", "tmp", "run", "mnt", "etc", "var/lib/nfs", "sbin", "usr/bin", "usr/sbin", "files"): c.mkdir(d)
        c.node("dev/console", 0o020600, 5, 1); c.node("dev/null", 0o020666, 1, 3); c.node("dev/ttyS1", 0o020600, 4, 65)
        c.file("bin/busybox", read(bb), 0o100755); c.link("bin/sh", "busybox")
        c.file("etc/passwd", b"root:x:0:0:root:/:/bin/sh\n_rpc:x:101:65534::/run/rpcbind:/bin/false\nstatd:x:102:65534::/var/lib/nfs:/bin/false\nuser:x:1000:1000::/tmp:/bin/sh\nnobody:x:65534:65534::/:/bin/false\ntests:x:1001:1001::/tmp:/bin/sh\npjdfstest:x:1002:1002::/tmp:/bin/sh\n")
        c.file("etc/group", b"root:x:0:\nnogroup:x:65534:\nuser:x:1000:\ntests:x:1001:\npjdfstest:x:1002:\n")
        c.file("etc/hosts", b"127.0.0.1 localhost\n::1 ip6-localhost\n"); c.file("etc/nsswitch.conf", b"passwd: files\ngroup: files\nhosts: files\nservices: files\nprotocols: files\nrpc: files\n"); c.file("etc/protocols", b"ip 0 IP\ntcp 6 TCP\nudp 17 UDP\nipv6 41 IPv6\n")
        c.file("etc/netconfig", b"udp tpi_clts v inet udp - -\ntcp tpi_cots_ord v inet tcp - -\nudp6 tpi_clts v inet6 udp - -\ntcp6 tpi_cots_ord v inet6 tcp - -\nlocal tpi_cots_ord - loopback - - -\n")
        c.file("etc/services", b"sunrpc 111/tcp portmapper\nsunrpc 111/udp portmapper\n"); c.file("etc/rpc", b"portmapper 100000 portmap sunrpc rpcbind\nstatus 100024\nnlockmgr 100021\n")
        c.file("modules.order", ("\n".join(m + ".ko" for m in order) + "\n").encode())
        c.file("init", INIT.encode(), 0o100755)
        open(os.path.join(CACHE, "initrd.new"), "wb").write(c.done())
        bz = read(os.path.join(x, "boot/vmlinuz-" + kv)); elf = elf_kernel(bz)
        open(os.path.join(CACHE, "vmlinuz.new"), "wb").write(elf or bz)
        os.rename(os.path.join(CACHE, "initrd.new"), os.path.join(CACHE, "initrd")); os.rename(os.path.join(CACHE, "vmlinuz.new"), os.path.join(CACHE, "vmlinuz"))
    print("kernel %s (%s), initramfs %.1f MiB, modules: %s\nin %s" % (kv, "ELF, PVH boot" if elf else "bzImage", os.path.getsize(os.path.join(CACHE, "initrd")) / 2**20, " ".join(order), CACHE))

def unsign(d):
    """Drop a module's appended signature: checking it costs most of insmod's time under TCG."""
    magic = b"~Module signature appended~\n"
    if not d.endswith(magic): return d
    n = int.from_bytes(d[-len(magic) - 4:-len(magic)], "big")
    return d[:-(len(magic) + 12 + n)]

def elf_kernel(bz):
    """bzImage -> its ELF vmlinux (PVH boot: no real mode, no decompression in the guest), or None."""
    setup = (bz[0x1f1] + 1) * 512; off, ln = int.from_bytes(bz[0x248:0x24c], "little"), int.from_bytes(bz[0x24c:0x250], "little")
    p = bz[setup + off:setup + off + ln]
    for magic, cmd in ((b"\x02\x21\x4c\x18", ["lz4", "-dc"]), (b"\x28\xb5\x2f\xfd", ["zstd", "-dcq"]), (b"\xfd7zXZ", ["xz", "-dc", "--single-stream"]), (b"\x1f\x8b", ["gzip", "-dc"])):
        if p.startswith(magic) and shutil.which(cmd[0]):
            o = subprocess.run(cmd, input=p, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout
            return o if o[:4] == b"\x7fELF" else None

def libs(path):
    out = subprocess.run(["ldd", path], capture_output=True, text=True).stdout
    return re.findall(r"(/\S+)", out)

def overlay(a, server, mport):
    c = Cpio()
    opts = ["vers=" + a.vers, "proto=tcp"] + ([] if a.no_ports else ["port=%d" % a.port])
    if a.vers.startswith("3"):
        opts += ["mountproto=tcp"] + ([] if a.no_ports else ["mountport=%d" % mport])
        opts += [] if a.locks else ["nolock"]
    if a.opts: opts.append(a.opts)
    net = a.net.split(":", 1)
    if net[0] == "tap":
        p = net[1].split(","); addr, gw = p[1], (p[2] if len(p) > 2 else "")
    else: addr, gw = "10.0.2.15/24", ("10.0.2.2" if net[0] == "slirp-open" else "")
    q = lambda s: "'" + str(s).replace("'", "'\\''") + "'"
    conf = dict(NFS_SERVER=server, NFS_EXPORT=a.export, NFS_OPTS=",".join(opts), ADDR=addr, GW=gw, MTU=a.mtu or "", HOSTN=a.hostname,
                LOCKS="1" if a.locks else "", NOMOUNT="1" if a.no_mount else "", ALLMODS="1" if a.disk or a.all_modules or not a.vers.startswith("3") else "", FSTYPE="nfs" if a.vers.startswith("3") else "nfs4")
    c.file("conf", "".join("%s=%s\n" % (k, q(v)) for k, v in conf.items()).encode())
    c.file("script", read(a.script) if a.script else (a.command + "\n").encode())
    for f in a.file:
        src, _, dst = f.partition(":"); st = os.stat(src)
        c.file(dst.lstrip("/") if dst else "files/" + os.path.basename(src), read(src), 0o100000 | stat.S_IMODE(st.st_mode))
    bins = list(a.bin)
    if a.locks:
        for b in ("rpcbind", "rpc.statd"):
            p = shutil.which(b) or "/usr/sbin/" + b
            if not os.path.exists(p): die("--locks needs rpcbind and nfs-common installed here (%s not found)" % b)
            bins.append(p)
    for b in bins:
        p = b if "/" in b else shutil.which(b)
        if not p: die("no such program: " + b)
        c.file("usr/bin/" + os.path.basename(p), read(p), 0o100755)
        for l in libs(p): c.file(l, read(l), 0o100755)
    return c.done()

def run(a):
    for f in ("vmlinuz", "initrd"):
        if not os.path.exists(os.path.join(CACHE, f)): prepare(argparse.Namespace(kernel_deb=None, busybox=None)); break
    if not (a.script or a.command): die("give --script or --command")
    mport = a.mount_port or a.port
    tmp = tempfile.mkdtemp(prefix="nfs-guest.")
    kind = a.net.split(":", 1)[0]
    server = a.server
    if kind == "slirp":
        forward = os.environ.get("NFS_GUEST_FORWARD")
        if not forward: die("--net slirp needs NFS_GUEST_FORWARD: forward.c, compiled")
        server, n = "10.0.2.100", "user,id=n0,restrict=on"
        for p in sorted({a.port, mport} | ({111} if a.no_ports else set())): n += ",guestfwd=tcp:10.0.2.100:%d-cmd:%s %s %d" % (p, forward, a.server, p)
        netdev = n
    elif kind == "slirp-open":
        server, netdev = ("10.0.2.2" if a.server in ("127.0.0.1", "localhost") else a.server), "user,id=n0"
    elif kind == "tap": netdev = "tap,id=n0,ifname=%s,script=no,downscript=no" % a.net.split(":", 1)[1].split(",")[0]
    else: die("--net: slirp, slirp-open or tap:IF,ADDR/PREFIX[,GW]")
    initrd = os.path.join(tmp, "initrd")
    with open(initrd, "wb") as f: f.write(read(os.path.join(CACHE, "initrd"))); f.write(overlay(a, server, mport))
    klog = a.kernel_log or os.path.join(tmp, "kernel.log")
    accel = a.accel
    if accel == "auto":  # kvm_pvm (KVM without hardware virtualization, for nested guests) cannot run a stock kernel: it emulates ring 0 and dies
        accel = "kvm" if os.access("/dev/kvm", os.R_OK | os.W_OK) and not os.path.exists("/sys/module/kvm_pvm") else "tcg"
    mac = "52:54:00:%02x:%02x:%02x" % tuple(os.urandom(3)) if kind == "tap" else "52:54:00:12:34:56"
    cmd = ["qemu-system-x86_64", "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
           "-machine", "%s,accel=%s" % (a.machine, accel), "-cpu", a.cpu or ("host,arch-capabilities=off" if accel == "kvm" else "max"), "-smp", str(a.cpus), "-m", str(a.mem),
           "-kernel", os.path.join(CACHE, "vmlinuz"), "-initrd", initrd,
           "-append", "console=ttyS0 quiet loglevel=%d panic=-1 reboot=t %s no_timer_check mitigations=off random.trust_cpu=on rdinit=/init %s" % (a.loglevel, "tsc=reliable" if accel == "kvm" else "tsc=unstable clocksource=acpi_pm", a.append),
           "-serial", "file:" + klog, "-chardev", "stdio,id=c1,signal=off", "-serial", "chardev:c1",
           "-netdev", netdev, "-device", "virtio-net-pci,netdev=n0,romfile=,mac=" + mac, "-device", "virtio-rng-pci"]
    for d in a.disk: cmd += ["-drive", "file=%s,if=virtio,format=raw,cache=none" % d]
    if a.netns: cmd = ["ip", "netns", "exec", a.netns] + cmd
    if a.verbose: sys.stderr.write(" ".join(cmd) + "\n")
    t0 = time.time()
    p = subprocess.Popen(cmd, stdin=None if a.stdin else subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True)
    def stop(*_):
        try: p.kill()
        except ProcessLookupError: pass
    for s in (signal.SIGTERM, signal.SIGINT): signal.signal(s, stop)
    # A lab that fails leaves no machine behind.
    def stop_without(parent):
        while os.getppid() == parent: time.sleep(1)
        stop()
    threading.Thread(target=stop_without, args=(os.getppid(),), daemon=True).start()
    timed = []
    timer = threading.Timer(a.timeout, lambda: (timed.append(1), stop())); timer.start()
    err = []; threading.Thread(target=lambda: err.append(p.stderr.read()), daemon=True).start()
    rc, buf, out = None, b"", sys.stdout.buffer
    info = ""
    while True:
        d = os.read(p.stdout.fileno(), 65536)
        if not d: break
        buf += d
        while True:
            i = buf.find(b"\n")
            if i < 0: break
            line, buf = buf[:i + 1], buf[i + 1:]
            j = line.find(MARK.encode())
            if j >= 0:
                if line[:j]: out.write(line[:j] + b"\n")
                f = line[j + len(MARK):].decode(errors="replace").split(); rc, info = int(f[0]), f[1:]
            else: out.write(line.replace(b"\r\n", b"\n"))
            out.flush()
        if buf and MARK.encode()[:1] not in buf: out.write(buf); out.flush(); buf = b""
    p.wait(); timer.cancel()
    if a.verbose or a.times: sys.stderr.write("nfs-guest: accel=%s wall %.2fs; guest uptime at mount %s, at end %s\n" % (accel, time.time() - t0, *(list(info) + ["?", "?"])[:2]))
    if rc is None:
        rc = 124 if timed else 125
        sys.stderr.write("nfs-guest: %s\n" % ("timed out after %ss" % a.timeout if timed else "the guest ended without a result"))
        time.sleep(0.1); sys.stderr.write(b"".join(err).decode(errors="replace")[-1500:])
        try: sys.stderr.write(read(klog).decode(errors="replace")[-2000:])
        except OSError: pass
    shutil.rmtree(tmp, ignore_errors=True)
    return rc

def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    sp = ap.add_subparsers(dest="cmd", required=True)
    P = sp.add_parser("prepare", help="fetch the kernel and build the initramfs into $NFS_GUEST_CACHE")
    P.add_argument("--kernel-deb", help="a linux-image-*.deb already here, instead of apt-get download"); P.add_argument("--busybox", help="path of a static busybox")
    R = sp.add_parser("run", help="boot, mount, run a script, print its output, return its status", formatter_class=argparse.RawDescriptionHelpFormatter, description=__doc__)
    R.add_argument("--server", default="127.0.0.1"); R.add_argument("--port", type=int, default=2049); R.add_argument("--mount-port", type=int, help="default: --port")
    R.add_argument("--export", default="/"); R.add_argument("--vers", default="3", help="3, 4.0, 4.1, 4.2"); R.add_argument("--opts", default="", help="more mount options, e.g. hard,timeo=50,rsize=1048576")
    R.add_argument("--script"); R.add_argument("-c", "--command"); R.add_argument("--all-modules", action="store_true", help="load nfsv4 and virtio_blk too (implied by --vers 4.x, --disk)"); R.add_argument("--no-mount", action="store_true"); R.add_argument("--no-ports", action="store_true", help="no port options: the client asks port 111")
    R.add_argument("--net", default="slirp"); R.add_argument("--netns", help="run QEMU inside this network namespace"); R.add_argument("--mtu", type=int)
    R.add_argument("--locks", action="store_true", help="NLM: start rpcbind and rpc.statd in the guest (mount without nolock)")
    R.add_argument("--file", action="append", default=[], metavar="HOST[:GUEST]"); R.add_argument("--bin", action="append", default=[], metavar="PROGRAM", help="copy a program of this machine with its libraries")
    R.add_argument("--disk", action="append", default=[], help="raw image, /dev/vda.. in the guest")
    R.add_argument("--hostname", default="guest"); R.add_argument("--mem", type=int, default=384); R.add_argument("--cpus", type=int, default=1); R.add_argument("--machine", default="q35"); R.add_argument("--cpu", help="QEMU -cpu"); R.add_argument("--accel", default="auto", choices=["auto", "kvm", "tcg"])
    R.add_argument("--timeout", type=float, default=120); R.add_argument("--stdin", action="store_true", help="pass stdin to the script"); R.add_argument("--append", default="", help="more kernel arguments")
    R.add_argument("--loglevel", type=int, default=4); R.add_argument("--kernel-log"); R.add_argument("--times", action="store_true"); R.add_argument("-v", "--verbose", action="store_true")
    a = ap.parse_args()
    sys.exit(prepare(a) or 0 if a.cmd == "prepare" else run(a))

if __name__ == "__main__": main()
