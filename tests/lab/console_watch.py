#!/usr/bin/env python3
"""`trivet watch` over an ensemble of Apache servers and an export that nobody serves: pages, alerts, one incident while the
leader and then the quorum are gone, messages, and what is kept over a restart."""
import http.server, json, os, re, signal, subprocess, sys, tempfile, threading, time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from console import ask, until
from ensemble import HOSTS, TRIVET, Ensemble

BASE = "http://127.0.0.1:8097"


class Receiver(http.server.BaseHTTPRequestHandler):
    got = []

    def do_POST(self):
        Receiver.got.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_):
        pass


class Watch:
    def __init__(self, folder, port):
        self.config = os.path.join(folder, "watch.toml")
        data = os.path.join(folder, "watch")
        os.makedirs(data, exist_ok=True)
        with open(self.config, "w") as f:
            f.write('name = "site"\ndata = "%s"\nconsole = "127.0.0.1:8097"\n' % data)
            for i in (1, 2, 3):
                f.write('[[server]]\nid = %d\naddress = "%s:2181"\n' % (i, HOSTS[i]))
        with open(os.path.join(data, "notifications.toml"), "w") as f:
            f.write('[[target]]\nname = "lab"\nkind = "webhook"\nurl = "http://127.0.0.1:%d/"\nlanguage = "zh"\n' % port)
        self.folder, self.process = folder, None

    def __enter__(self):
        log = open(os.path.join(self.folder, "watch.log"), "ab")
        env = {**os.environ, "LC_ALL": "C"}
        self.process = subprocess.Popen([TRIVET, "watch", "--config", self.config], stdout=log, stderr=log, env=env)
        until("pages", self.answers, 30)
        return self

    def answers(self):
        try:
            return ask("/healthz", BASE)[0] == 200
        except OSError:
            return False

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(10)


def firing():
    alerts = json.loads(ask("/api/v1/alerts", BASE)[2])["alerts"]
    return {a["rule"] for a in alerts if a["state"] == "firing" and a["rule"] != "WATCHDOG" and not a["rule"].startswith("DISK_")}


def incidents():
    return json.loads(ask("/api/v1/incidents", BASE)[2])["incidents"]


def main():
    receiver = http.server.HTTPServer(("127.0.0.1", 0), Receiver)
    threading.Thread(target=receiver.serve_forever, daemon=True).start()
    folder = tempfile.mkdtemp(prefix="trivet-watch.")
    with Ensemble({1: "apache", 2: "apache", 3: "apache"}) as e:
        e.wait_all()
        with Watch(folder, receiver.server_port):
            until("OK", lambda: json.loads(ask("/api/v1/health", BASE)[2])["level"] == "ok" or None, 30)
            for language, word in (("en", "Overview"), ("zh-CN", "概览")):
                for p in ("/", "/incidents", "/alerts", "/network", "/nodes", "/datastores", "/activity", "/settings"):
                    status, _, body = ask(p, BASE, Accept_Language=language)
                    assert status == 200 and word in body, (p, language, status)
            nodes = ask("/nodes", BASE)[2]
            assert all(HOSTS[i] in nodes for i in (1, 2, 3)) and nodes.count('class="ok"') == 3, nodes
            assert ask("/readyz", BASE)[0] == 200 and "trivet_health 0" in re.sub(r"\{[^}]*\}", "", ask("/metrics", BASE)[2])
            # The leader dies: one of three is down, and another one leads.
            leader = e.leader()
            leader.kill()
            until("NODE_DOWN", lambda: "NODE_DOWN" in firing(), 60)
            until("one incident", lambda: len(incidents()) == 1 or None)
            # The quorum is lost.
            left = [s for s in e.servers.values() if s.process]
            left[0].kill()
            until("COORD_NO_QUORUM", lambda: "COORD_NO_QUORUM" in firing(), 60)
            begun = time.time()
            body = ask("/", BASE)[2]
            assert "no leader serves with a quorum" in body and time.time() - begun < 3
            found = incidents()
            assert len(found) == 1 and found[0]["severity"] == "critical", [i["headline"] for i in found]
            identity = found[0]["id"]
            until("a message", lambda: any(g["commonLabels"]["severity"] == "critical" for g in Receiver.got), 30)
            assert "宕机" in Receiver.got[0]["commonAnnotations"]["summary"], Receiver.got[0]
        # Known incidents outlive the program, and those that have ended in the meantime are seen to have ended.
        with Watch(folder, receiver.server_port):
            assert identity in [i["id"] for i in incidents()]
            for s in e.servers.values():
                if not s.process:
                    s.start()
            until("the alerts are over", lambda: not firing(), 120)
            assert len(Receiver.got) <= 4, [g["commonAnnotations"] for g in Receiver.got]
            print("an Apache ensemble watched: leader and quorum lost, one incident, %d messages, kept over a restart" % len(Receiver.got))
        out = subprocess.run([TRIVET, "watch", "--config", os.path.join(folder, "watch.toml"), "--once", "5"], capture_output=True, text=True)
        assert out.returncode == 0, out


if __name__ == "__main__":
    main()
