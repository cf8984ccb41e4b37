#!/usr/bin/env python3
"""The console off loopback: TLS with a certificate of the node's own, then with one of the site's, which expires soon and is
replaced while the nodes run; what plain HTTP still gets; files that cannot be used; and commands that talk to a stranger."""
import json, os, socket, ssl, subprocess, sys, threading, time

HERE = os.path.dirname(os.path.abspath(__file__))
# A network of its own, in which the nodes have addresses that are not loopback's.
if os.environ.get("CONSOLE_TLS_INSIDE") != "1":
    inside = "ip link set lo up; for n in 70 71 72 73; do ip addr add 10.99.0.$n/24 dev lo; done; exec env CONSOLE_TLS_INSIDE=1 \"$@\""
    os.execvp("unshare", ["unshare", "--net", "sh", "-c", inside, "sh", sys.executable] + sys.argv)

from cluster import Cluster, TRIVET
from console import ask, until

NODE = "10.99.0.71"
HTTP, HTTPS = "http://%s:8088" % NODE, "https://%s:8088" % NODE


def run(*command):
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, "%s: %s" % (" ".join(command), done.stderr or done.stdout)
    return done.stdout


def shown(host=NODE):
    """The certificate that is shown, as PEM."""
    return ssl.get_server_certificate((host, 8088))


def issue(folder, name, days):
    """A certificate of the site's, its key beside it, and what trusts it."""
    cert, key = os.path.join(folder, name + ".pem"), os.path.join(folder, name + ".key")
    run("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", key, "-out", cert,
        "-days", str(days), "-subj", "/CN=site", "-addext", "subjectAltName=IP:" + NODE)
    return cert, key


def alerts(c):
    done = subprocess.run([TRIVET, "alerts", "--json", "--active", "--data", c.data], capture_output=True, text=True)
    return [a for a in json.loads(done.stdout)["alerts"] if a["rule"] == "CERT_EXPIRY"] if done.stdout else []


def own_certificate(c):
    assert ask("/readyz", HTTP)[0] == 200
    status, headers, _ = ask("/alerts?x=1", HTTP)
    assert (status, headers["location"]) == (308, "https://%s:8088/alerts?x=1" % NODE), (status, headers.items())
    assert ask("/login", HTTP, data="name=a&password=b")[0] == 403
    trusting = ssl.create_default_context(cadata=shown())
    status, _, body = ask("/login", HTTPS, context=trusting)
    assert status == 200 and "password" in body
    status, headers, _ = ask("/", HTTPS, context=trusting)
    assert (status, headers["location"]) == (303, "/login"), (status, headers.items())
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        trusting.minimum_version = trusting.maximum_version = version
        assert ask("/healthz", HTTPS, context=trusting)[0] == 200, version
    link = run(TRIVET, "account", "link", "--data", c.data).split()[-1]
    assert link.startswith("https://10.99.0.7"), link
    everyone = ssl._create_unverified_context()
    host = link.split("/login")[0]
    status, headers, _ = ask(link[len(host):], host, context=everyone)
    assert status == 303 and "Secure" in headers["set-cookie"] and "HttpOnly" in headers["set-cookie"], headers.items()
    cookie = headers["set-cookie"].split(";")[0]
    status, _, body = ask("/settings", host, context=everyone, Cookie=cookie)
    assert status == 200 and "SHA-256" in body and "made by this node" in body
    # A connection that sends nothing, or begins a handshake and abandons it, takes its own place and no other's.
    silent = [socket.create_connection((NODE, 8088)) for _ in range(20)]
    for s in silent[:10]:
        s.sendall(b"\x16\x03\x01")
    assert ask("/healthz", HTTPS, context=ssl.create_default_context(cadata=shown()))[0] == 200
    for s in silent:
        s.close()
    print("own certificate: TLS 1.2 and 1.3, plain HTTP is sent to it, the link signs in with a cookie for TLS alone")


def stranger(c):
    """Something at a node's address that has not the cluster's key: commands do not believe it."""
    folder = os.path.join(c.folder, "stranger")
    os.makedirs(folder)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*issue(folder, "stranger", 30))
    heard, listener = [], socket.create_server((NODE, 8088))

    def serve():
        while True:
            try:
                with context.wrap_socket(listener.accept()[0], server_side=True) as s:
                    heard.append(s.recv(4096))
            except ssl.SSLError:
                heard.append(b"")
            except OSError:
                return
    threading.Thread(target=serve, daemon=True).start()
    nodes = c.status()
    listener.close()
    assert heard and not any(heard), heard
    assert all(n["node"] != 1 for n in nodes) and len(nodes) == 2, [n["node"] for n in nodes]
    print("a stranger at a node's address gets no request, and is not taken for the node")


def main():
    with Cluster("--base-address", "10.99.0.70", "--restart", "1") as c:
        assert len(c.status()) == 3
        own_certificate(c)
        folder = os.path.join(c.folder, "site")
        os.makedirs(folder)
        cert, key = issue(folder, "console", 5)
        config = os.path.join(c.data, "node1", "node.toml")
        with open(config) as f:
            before = f.read()
        section = '[console]\ncertificate = "%s"\nkey = "%s"\n\n[nodes]' % (cert, key)
        with open(config, "w") as f:
            f.write(before.replace("[nodes]", section))
        run(TRIVET, "check-config", config)
        c.kill(1, c.status())
        until("the site's certificate", lambda: try_shown() == open(cert).read())
        alert = until("the alert", lambda: alerts(c))[0]
        assert alert["severity"] == "critical", alert
        print("a certificate of the site's with 5 days left: %s" % alert["reason"]["en"])
        newer, newer_key = issue(folder, "newer", 400)
        # The certificate first: until its key is there as well, the one before is shown.
        os.replace(newer, cert)
        time.sleep(12)
        assert try_shown() != open(cert).read()
        os.replace(newer_key, key)
        until("the new certificate, without a restart", lambda: try_shown() == open(cert).read())
        until("the alert is over", lambda: not alerts(c))
        with open(key, "w") as f:
            f.write("-----BEGIN PRIVATE KEY-----\nbm8=\n-----END PRIVATE KEY-----\n")
        done = subprocess.run([TRIVET, "check-config", config], capture_output=True, text=True)
        assert done.returncode != 0 and key in done.stderr and len(done.stderr.splitlines()) == 1, done
        time.sleep(12)
        assert try_shown() == open(cert).read(), "files that cannot be used take nothing away"
        print("it was replaced while the node ran, and the alert went; a broken key is told by check-config, and changes nothing")
    with Cluster("--base-address", "10.99.0.70", "--restart", "never") as c:
        c.kill(1, c.status())
        stranger(c)


def try_shown():
    try:
        return shown()
    except OSError:
        return None


main()
