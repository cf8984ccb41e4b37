"""A node that a lab stops and starts again by itself."""
import os, signal, subprocess, time
from cluster import TRIVET


def newest(nodes):
    return max((n for n in nodes if n["metad"]), key=lambda n: n["metad"]["entries"], default=None)


def ended(pid):
    try:
        with open("/proc/%d/stat" % pid) as f:
            return f.read().rsplit(")", 1)[1].split()[0] == "Z"
    except OSError:
        return True


class Away:
    """The node that goes and comes back."""

    def __init__(self, c, node):
        self.c, self.node, self.process = c, node, None
        self.folder = os.path.join(c.data, "node%d" % node)

    def stop(self):
        pid = next(n["pid"] for n in self.c.status() if n["node"] == self.node)
        os.kill(pid, signal.SIGTERM)
        end = time.time() + 20
        while not ended(pid):
            assert time.time() < end, "node %d does not end" % self.node
            time.sleep(0.02)
        if self.process:
            self.process.wait(20)

    def start(self):
        log = open(os.path.join(self.folder, "lab.log"), "ab")
        command = [TRIVET, "serve", "--config", os.path.join(self.folder, "node.toml")]
        self.process = subprocess.Popen(command, stdout=log, stderr=log)
