"""Sources of pjdfstest and cthon04, built here without their build systems, and a C compiler for the guest, as archives."""
import glob, os, re, shutil, subprocess, tarfile

from cluster import CACHE

SOURCES = {
    "pjdfstest": os.environ.get("PJDFSTEST_SOURCE", "https://github.com/pjd/pjdfstest"),
    "cthon04": os.environ.get("CTHON04_SOURCE", "https://github.com/phdeniel/cthon04"),
}
PJD_TAR, CTHON_TAR, TOOLS_TAR = (os.path.join(CACHE, name + ".tar") for name in ("pjdfstest", "cthon04", "tools"))
# The results of configure on Linux.
HAVE = ["SYS_SYSMACROS_H", "STRUCT_STAT_ST_ATIM", "STRUCT_STAT_ST_CTIM", "STRUCT_STAT_ST_MTIM", "POSIX_FALLOCATE"] + [
    name + "AT" for name in ("FACCESS", "FCHMOD", "FCHOWN", "FST", "LINK", "MKDIR", "MKFIFO", "MKNOD", "OPEN", "READLINK", "RENAME", "SYMLINK", "UTIMENS", "UNLINK")]
HEADERS = ("arpa", "asm", "asm-generic", "bits", "gnu", "linux", "net", "netinet", "rpc", "sys")
CTHON_FLAGS = "-w -std=gnu89 -DLINUX -DHAVE_SOCKLEN_T -DGLIBC=22 -DMMAP -DSTDARG -D_GNU_SOURCE"


def source(name):
    folder = os.path.join(CACHE, name)
    if not os.path.exists(folder):
        os.makedirs(CACHE, exist_ok=True)
        subprocess.check_call(["git", "clone", "-q", "--depth", "1", SOURCES[name], folder])
    return folder


def pjdfstest():
    folder = source("pjdfstest")
    with open(os.path.join(folder, "config.h"), "w") as f:
        f.writelines("#define HAVE_%s 1\n" % name for name in HAVE)
    subprocess.check_call(["cc", "-O1", "-w", "-static", "-D_GNU_SOURCE", "-DHAVE_CONFIG_H", "-I.", "-o", "pjdfstest", "pjdfstest.c"], cwd=folder)
    with tarfile.open(PJD_TAR, "w") as tar:
        for name in ("pjdfstest", "tests"):
            tar.add(os.path.join(folder, name), name)


def cthon04():
    folder = source("cthon04")
    init = os.path.join(folder, "tests.init")
    text = re.sub(r"(?m)^CFLAGS=.*", "", open(init).read())
    text = re.sub(r"(?m)^LIBS=.*", "", text)
    # The last of each counts. The tests are built here, and the general ones compile in the guest.
    with open(init, "w") as f:
        f.write(text + "\nCC=cc\nCFLAGS=`echo %s`\nLIBS=`echo -lm`\nexport CC CFLAGS LIBS\n" % CTHON_FLAGS)
    for part in ("basic", "special", "lock", "general"):
        command = ["make", "-s", "CC=cc", "CFLAGS=-static " + CTHON_FLAGS, "LIBS=-lm", "LOCKTESTS=tlocklfs tlock64"]
        subprocess.check_call(command, cwd=os.path.join(folder, part), stderr=subprocess.DEVNULL)
    with tarfile.open(CTHON_TAR, "w") as tar:
        tar.add(folder, "cthon04")


def libraries(path):
    out = subprocess.run(["ldd", path], capture_output=True, text=True).stdout
    return re.findall(r"(/\S+)", out)


def tools():
    """cc, make, tbl and nroff of this machine with what they need."""
    asked = lambda *args: subprocess.run(["cc"] + list(args), capture_output=True, text=True, check=True).stdout.strip()
    programs = {os.path.realpath(shutil.which(p)): os.path.join("/usr/bin", p) for p in ("cc", "as", "ld", "make", "tbl", "groff", "troff", "grotty") if shutil.which(p)}
    inside = [os.path.realpath(asked("-print-prog-name=" + p)) for p in ("cc1", "collect2")]
    gcc = os.path.dirname(inside[0])
    lib = os.path.dirname(os.path.realpath(asked("-print-file-name=crt1.o")))
    gcc_lib = os.path.dirname(os.path.realpath(asked("-print-libgcc-file-name")))
    files = {p: p for p in inside}
    files.update(programs)
    for program in list(files):
        files.update({l: l for l in libraries(program)})
    wanted = [os.path.join(gcc_lib, n) for n in ("*.o", "libgcc.a", "libgcc_s.so", "libgcc_eh.a", "liblto_plugin.so")]
    wanted += [os.path.join(lib, n) for n in ("*crt*.o", "crt?.o", "libc.so*", "libc_nonshared.a", "libm.so*", "libmvec.so*", "libgcc_s.so*", "ld-linux*")]
    wanted += [os.path.join(gcc, "liblto_plugin.so"), "/usr/lib64/ld-linux*", "/lib64/ld-linux*", "/lib/x86_64-linux-gnu/lib[cm].so.6", "/lib/x86_64-linux-gnu/libmvec.so.1"]
    for pattern in wanted:
        files.update({p: p for p in glob.glob(pattern)})
    with tarfile.open(TOOLS_TAR, "w", dereference=True) as tar:
        for path, name in sorted(files.items()):
            tar.add(os.path.realpath(path), name.lstrip("/"))
        headers = [os.path.join(base, n) for base in ("/usr/include", "/usr/include/x86_64-linux-gnu") for n in HEADERS]
        for folder in headers + [os.path.join(gcc_lib, "include"), "/usr/share/groff"]:
            if os.path.isdir(folder):
                tar.add(folder, folder.lstrip("/"))
        for header in glob.glob("/usr/include/*.h"):
            tar.add(header, header.lstrip("/"))
        if shutil.which("nroff"):
            tar.add(os.path.realpath(shutil.which("nroff")), "usr/bin/nroff")


def prepare():
    for path, make in ((PJD_TAR, pjdfstest), (CTHON_TAR, cthon04), (TOOLS_TAR, tools)):
        if not os.path.exists(path):
            make()
