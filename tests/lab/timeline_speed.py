#!/usr/bin/env python3
"""How fast `trivet timeline` reads, and how much memory it takes: a recorded night within a day of clients' lines, in four forms.
Each form must tell the same outages. The figures are printed; on a quiet machine they are held against 10 s and 200 MiB for 1 GiB,
and twice that time for JSON.

    timeline_speed.py [--mib 1024] [--form plain|syslog|compose|ecs] [--keep FOLDER]"""
import argparse, datetime, gzip, json, os, re, resource, shutil, subprocess, sys, tempfile, time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
NIGHT = os.path.join(ROOT, "crates/forensics/tests/logs/3.8.0-incident")
TRIVET = os.environ.get("TRIVET_BIN", os.path.join(ROOT, "target/release/trivet"))
LINE = re.compile(r"(\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d,\d{3}) \[myid:\d*\] - (\w+) +\[(.*):([\w$]+)@(\d+)\] - (.*)")
FORMS = ["plain", "syslog", "compose", "ecs"]
# A line of a client every so many milliseconds: some 25 a second, as a server with thousands of clients writes.
STEP_MS = 40
# Limits of a machine that is busy with other work; those of a quiet one stand above.
SLOW = 4


def clients(i):
    """Seven lines in turn: level, thread, class, line of source, message."""
    port, session = 30_000 + i * 7 % 30_000, 0x100000000 + i
    selector = "NIOWorkerThread-%d" % (i % 32)
    return [
        ("INFO", "SessionTracker", "ZooKeeperServer", 628, "Expiring session 0x%x, timeout of 30000ms exceeded" % session),
        ("INFO", selector, "ZooKeeperServer", 1056, "Session establishment request from client /10.0.20.%d:%d client's lastZxid is 0x0" % (i % 250 + 1, port)),
        ("INFO", "CommitProcWorkThread-1", "ZooKeeperServer", 744, "Established session 0x%x with negotiated timeout 30000 for client /10.0.20.%d:%d" % (session, i % 250 + 1, port)),
        ("WARN", selector, "NIOServerCnxn", 371, "Unable to read additional data from client sessionid 0x%x, likely client has closed socket" % session),
        ("INFO", selector, "NIOServerCnxn", 1001, "Closed socket connection for client /10.0.20.%d:%d which had sessionid 0x%x" % (i % 250 + 1, port, session)),
        ("INFO", selector, "FourLetterCommands", 234, "The list of known four letter word commands is : [{1936881266=srvr, 1937006964=stat}]"),
        ("INFO", "ProcessThread(sid:1 cport:-1):", "PrepRequestProcessor", 758, "Got user-level KeeperException when processing sessionid:0x%x type:create cxid:0x%x zxid:0x%x txntype:-1 reqpath:n/a Error Path:/locks/l%d Error:KeeperErrorCode = NodeExists" % (session, i, session, i % 1000)),
    ][i % 7]


class Form:
    """Writes lines of node `id` in a form."""
    def __init__(self, form, id, out):
        self.form, self.id, self.out, self.size, self.second = form, id, out, 0, None

    def stamp(self, at):
        """`2026-11-22 07:56:19` of a second is made once."""
        second, ms = divmod(at, 1000)
        if second != self.second:
            d = datetime.datetime.fromtimestamp(second, datetime.timezone.utc)
            self.second, self.text = second, (d.strftime("%Y-%m-%d %H:%M:%S"), d.strftime("%b %e %H:%M:%S"), d.strftime("%Y-%m-%dT%H:%M:%S"))
        return self.text, ms

    def entry(self, at, level, thread, cls, number, message):
        (plain, bsd, iso), ms = self.stamp(at)
        if self.form == "ecs":
            line = json.dumps({"@timestamp": "%s.%03dZ" % (iso, ms), "log.level": level, "message": message, "ecs.version": "1.2.0", "service.name": "zookeeper",
                               "process.thread.name": thread, "log.logger": "org.apache.zookeeper.server." + cls, "host.name": "zk%d" % self.id, "myid": str(self.id)})
            return self.write(line)
        self.text_line(bsd, "%s,%03d [myid:%d] - %-5s [%s:%s@%d] - %s" % (plain, ms, self.id, level, thread, cls, number, message))

    def more(self, text):
        """A line that belongs to the entry above."""
        if self.form == "ecs":
            return
        self.text_line(self.text[1], text)

    def text_line(self, bsd, line):
        prefix = {"plain": "", "syslog": "%s zk%d zookeeper[99]: " % (bsd, self.id), "compose": "\x1b[36mzk%d_1  |\x1b[0m " % self.id}[self.form]
        self.write(prefix + line)

    def write(self, line):
        self.out.write(line + "\n")
        self.size += len(line) + 1


def night(id):
    """[(milliseconds, level, thread, class, line of source, message)]; of a line that continues the one above, the text alone"""
    out = []
    for line in gzip.open(os.path.join(NIGHT, "node7%d.log.gz" % id), "rt"):
        m = LINE.match(line.rstrip("\n"))
        if not m:
            out.append(line.rstrip("\n"))
            continue
        at = datetime.datetime.strptime(m[1].replace("T", " ") + "+0000", "%Y-%m-%d %H:%M:%S,%f%z")
        out.append((round(at.timestamp() * 1000), m[2], m[3], m[4], int(m[5]), m[6]))
    return out


def write(form, id, path, bytes_wanted):
    lines = night(id)
    with open(path, "w", encoding="utf-8") as out:
        f = Form(form, id, out)
        begin = lines[0][0]
        spent = sum(len(l) if isinstance(l, str) else len(l[5]) + 110 for l in lines)
        before = int((bytes_wanted - spent) / 205 / 2)
        count = 0
        def quiet(at, until):
            nonlocal count
            while f.size < until:
                f.entry(at, *clients(count))
                at, count = at + STEP_MS, count + 1
        # The number of lines before the night says when the first one is.
        while f.size < (bytes_wanted - spent) // 2:
            f.entry(begin - 60_000 - (before - count) * STEP_MS if count < before else begin - 60_000, *clients(count))
            count += 1
        for l in lines:
            f.more(l) if isinstance(l, str) else f.entry(*l)
        last = max(l[0] for l in lines if not isinstance(l, str))
        quiet(last + 60_000, bytes_wanted)
        return f.size


def run(form, mib, folder):
    os.makedirs(folder, exist_ok=True)
    paths = [os.path.join(folder, "node%d.log" % id) for id in (1, 2, 3)]
    size = sum(write(form, id, p, mib * (1 << 20) // 3) for id, p in zip((1, 2, 3), paths))
    for p in paths:
        # Read once, so that the disk is not what is measured.
        with open(p, "rb") as f:
            while f.read(1 << 20):
                pass
    begun = time.monotonic()
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([TRIVET, "timeline", "--json", *paths], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    seconds = time.monotonic() - begun
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode in (0, 1), done.returncode
    report = json.loads(done.stdout)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return size, seconds, cpu, after.ru_maxrss / 1024, report


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--mib", type=int, default=1024, help="size of each form's three logs together")
    ap.add_argument("--form", choices=FORMS, action="append", help="only this form; may be given more than once")
    ap.add_argument("--keep", metavar="FOLDER", help="write the logs there and leave them")
    args = ap.parse_args()
    told = {}
    for form in args.form or FORMS:
        # Each form in a process of its own: the system tells the memory of the largest child only.
        if not args.form:
            subprocess.run([sys.executable, os.path.abspath(__file__), "--mib", str(args.mib), "--form", form], check=True)
            continue
        folder = args.keep or tempfile.mkdtemp(prefix="trivet-speed.")
        try:
            size, seconds, cpu, rss, report = run(form, args.mib, os.path.join(folder, form))
        finally:
            if not args.keep:
                shutil.rmtree(folder, ignore_errors=True)
        gib = size / (1 << 30)
        print("%-8s %5.2f GiB  %6.2f s  %6.2f s/GiB  %6.2f s of a processor  %5.0f MiB of memory  %d outages" %
              (form, gib, seconds, seconds / gib, cpu, rss, len(report["outages"])), flush=True)
        told[form] = report["outages"]
        limit = (20 if form == "ecs" else 10) * SLOW
        assert seconds / gib < limit, "%s: %.1f s for a GiB" % (form, seconds / gib)
        assert rss < 200 * max(gib, 1), "%s: %.0f MiB of memory" % (form, rss)
        assert len(report["outages"]) >= 2, (form, len(report["outages"]))


if __name__ == "__main__":
    main()
