"""Certificates and key stores for the labs of TLS: an authority, what it signed, in the forms that ZooKeeper reads."""
import os, subprocess
from ensemble import HOSTS

PASSWORD = "secret"


def run(*command, **kw):
    done = subprocess.run(command, capture_output=True, text=True, **kw)
    assert done.returncode == 0, "%s: %s" % (" ".join(command), done.stderr or done.stdout)
    return done.stdout


class Authority:
    def __init__(self, folder, name="lab"):
        self.folder, self.name = folder, name
        os.makedirs(folder, exist_ok=True)
        self.pem = os.path.join(folder, name + "-ca.pem")
        run("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", self.pem + ".key",
            "-out", self.pem, "-days", "30", "-subj", "/CN=%s authority" % name)
        self.trust = {"pem": self.pem}
        for kind, store in (("p12", "PKCS12"), ("jks", "JKS")):
            self.trust[kind] = os.path.join(folder, "%s-trust.%s" % (name, kind))
            run("keytool", "-importcert", "-noprompt", "-alias", "ca", "-file", self.pem, "-keystore", self.trust[kind], "-storetype", store, "-storepass", PASSWORD)

    def issue(self, name, subject="/O=Lab/CN=%s", hosts=None, days="30", rsa=False, stores=("pem", "p12", "jks")):
        """A key and its certificate, in these stores; returns their paths by kind, with `key` and `cert` apart for Python."""
        base = os.path.join(self.folder, name)
        key, cert, request = base + ".key", base + ".crt", base + ".csr"
        kind = ["-newkey", "rsa:2048"] if rsa else ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]
        run("openssl", "req", "-new", *kind, "-nodes", "-keyout", key, "-out", request, "-subj", subject % name if "%s" in subject else subject)
        with open(base + ".ext", "w") as f:
            f.write("subjectAltName=%s\n" % (hosts or "DNS:localhost," + ",".join("IP:" + h for h in HOSTS.values())))
        run("openssl", "x509", "-req", "-in", request, "-CA", self.pem, "-CAkey", self.pem + ".key", "-CAcreateserial", "-out", cert, "-days", days, "-extfile", base + ".ext")
        out = {"key": key, "cert": cert, "pem": base + ".pem", "p12": base + ".p12", "jks": base + ".jks"}
        with open(out["pem"], "w") as f:
            f.write(open(key).read() + open(cert).read())
        if "p12" in stores:
            run("openssl", "pkcs12", "-export", "-inkey", key, "-in", cert, "-certfile", self.pem, "-name", name, "-out", out["p12"], "-passout", "pass:" + PASSWORD)
        if "jks" in stores:
            run("keytool", "-importkeystore", "-srckeystore", out["p12"], "-srcstorepass", PASSWORD, "-destkeystore", out["jks"], "-deststoretype", "JKS", "-deststorepass", PASSWORD)
        return out


def settings(prefix, own, authority, kind):
    """The lines of a zoo.cfg that name a store of this kind."""
    return "".join("%s%s=%s\n" % (prefix, k, v) for k, v in (
        ("keyStore.location", own[kind]), ("keyStore.password", PASSWORD if kind != "pem" else ""),
        ("trustStore.location", authority.trust[kind]), ("trustStore.password", PASSWORD if kind != "pem" else "")))
