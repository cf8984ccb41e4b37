#!/usr/bin/env python3
"""The console's API against its own OpenAPI document, by schemathesis: for each path, requests that the document allows and
requests that it does not. No answer is a 5xx that is not documented, none has another status, type or shape than documented,
wrong parameters and methods are refused, and right ones accepted.

On a loopback address the console needs no login to be read, so those two checks of schemathesis are left out; lab console-tls
shows that elsewhere nothing is read without one."""
import json, os, shutil, subprocess, sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from cluster import Cluster
from console import BASE, ask, trivet, until

EXAMPLES = 25  # requests of one operation and phase
TOOL = os.environ.get("SCHEMATHESIS") or shutil.which("schemathesis")


def main():
    with Cluster() as c:
        until("the cluster is ready", lambda: ask("/readyz")[0] == 200, 60)
        token = trivet(c, "account", "token", "robot", "--role", "viewer")
        assert token.returncode == 0, token.stderr
        document = json.loads(ask("/api/v1/openapi.json")[2])
        operations = sum(len(methods) for methods in document["paths"].values())
        ran = subprocess.run([TOOL, "run", BASE + "/api/v1/openapi.json", "--header", "Authorization: Bearer " + token.stdout.strip().splitlines()[-1],
                              "--checks", "all", "--exclude-checks", "ignored_auth,missing_required_header", "--phases", "examples,coverage,fuzzing", "--max-examples", str(EXAMPLES),
                              "--seed", "1", "--no-color", "--continue-on-failure"], capture_output=True, text=True, timeout=900)
        print("\n".join(ran.stdout.splitlines()[-60:]))
        assert ran.returncode == 0, ran.stderr[-2000:]
        print("%d operations as the OpenAPI document says" % operations)


if __name__ == "__main__":
    main()
