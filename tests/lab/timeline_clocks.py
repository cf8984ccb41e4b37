#!/usr/bin/env python3
"""Clock differences on a loaded machine: three servers of Apache ZooKeeper 3.8.0 on one clock are started again and again
while other processes take all cores. Whatever `trivet timeline` says of their clocks, 0 must be within its stated error.

    timeline_clocks.py [STARTS]      20"""
import json, multiprocessing, os, subprocess, sys, tempfile, time

from timeline_causes import TRIVET, Night

STARTS = int(sys.argv[1]) if len(sys.argv) > 1 else 20


def spin(end):
    while not end.is_set():
        sum(i * i for i in range(10_000))


def one(n, number):
    """Differences and their errors, in seconds, of one start."""
    for i in n.lab.ids():
        (n.lab.dir(i) / "zookeeper.log").unlink(missing_ok=True)
    # Another one is first each time.
    for i in range(3):
        n.lab.start(1 + (number + i) % 3)
    n.lab.wait_serving(3, timeout=120)
    time.sleep(0.5)
    logs = [str(n.lab.dir(i) / "zookeeper.log") for i in n.lab.ids()]
    r = subprocess.run([TRIVET, "timeline", "--json", *logs], capture_output=True, text=True, timeout=60)
    for i in n.lab.ids():
        n.lab.kill(i)
    assert r.returncode in (0, 1), r.stderr
    found = json.loads(r.stdout)["nodes"]
    compared = [f for f in found if f["clock_offset_s"] is not None]
    # The first is what the others are compared with.
    return {f["id"]: (f["clock_offset_s"], f["clock_error_s"]) for f in compared[1:]}


def main():
    end = multiprocessing.Event()
    spinners = [multiprocessing.Process(target=spin, args=(end,), daemon=True) for _ in range(2 * os.cpu_count())]
    wrong, said, widest = [], 0, 0.0
    with tempfile.TemporaryDirectory(prefix="trivet-clocks.") as root, Night(root) as n:
        for s in spinners:
            s.start()
        try:
            for number in range(STARTS):
                for node, (offset, error) in one(n, number).items():
                    said, widest = said + 1, max(widest, error)
                    if abs(offset) > error:
                        wrong.append("start %d: server %d is %+.3f s, by %.3f" % (number + 1, node, offset, error))
        finally:
            end.set()
            for s in spinners:
                s.join(5)
    print("%d starts on %d busy processes: %d differences told, the widest error is %.3f s" % (STARTS, len(spinners), said, widest))
    assert said >= STARTS, "nothing was said of most clocks"
    assert not wrong, wrong


if __name__ == "__main__":
    main()
