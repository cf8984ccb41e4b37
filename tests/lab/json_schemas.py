#!/usr/bin/env python3
"""The output of each command with --json follows the schema that `trivet schema` prints: every output of a cluster with a few files, a snapshot, a lock
of nobody, a refused change and an audit entry is held to its schema, by jsonschema."""
import json, os, subprocess, sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import jsonschema
from cluster import ADDRESS, Cluster, TRIVET
from console import until
from nfs_client import Client

ZK = ("ls /", "ls -s /", "get /zookeeper", "stat /zookeeper", "create /a x", "set /a y", "acl /a", "config", "whoami")


def run(*args):
    return subprocess.run([TRIVET, *args], capture_output=True, text=True, timeout=60)


def schema(name):
    said = run("schema", name)
    assert said.returncode == 0, said.stderr
    document = json.loads(said.stdout)
    jsonschema.Draft202012Validator.check_schema(document)
    return jsonschema.Draft202012Validator(document)


def hold(validator, value, what):
    errors = [(list(e.absolute_path), e.message[:300]) for e in validator.iter_errors(value)]
    assert not errors, (what, errors[:5])


def main():
    names = [l.split()[0] for l in run("schema").stdout.splitlines()]
    schemas = {n: schema(n) for n in names}
    held = {}
    with Cluster() as c:
        client = Client(ADDRESS)
        for i in range(3):
            client.write(client.create(b"disk-%d.vmdk" % i), [(0, b"x" * 4096)])
        until("the files are counted", lambda: any((n.get("contents") or {}).get("files") == 3 for n in c.status()), 60)
        data = ("--data", c.data)
        assert run("datastore", "snapshot", "create", "ds1", "s1", *data).returncode == 0
        assert run("silence", "add", "--rule", "NODE_DOWN", "--hours", "1", "--comment", "x", *data).returncode == 0
        backup = os.path.join(c.folder, "backup.tar.gz")
        for command in (("status",), ("datastore", "list"), ("datastore", "show", "ds1"), ("datastore", "losses"), ("datastore", "locks"),
                        ("datastore", "snapshot", "list", "ds1"), ("datastore", "verify", "ds1"), ("datastore", "set", "ds1", "--quota", "10G"),
                        ("datastore", "set", "ds1", "--quota", "20G", "--dry-run"), ("node", "remove", "2"), ("alerts",), ("incident", "list"),
                        ("audit",), ("backup", "create", backup)):
            said = run(*command, "--json", *data)
            # A document may take many lines; several documents take a line each.
            try:
                values = [json.loads(said.stdout)]
            except ValueError:
                values = [json.loads(l) for l in said.stdout.splitlines()]
            assert values, (command, said)
            for v in values:
                name, version = v["schema"].split("/")
                assert version == "1", v["schema"]
                hold(schemas[name.removeprefix("trivet.")], v, command)
                held[name] = held.get(name, 0) + 1
        for n in c.status():
            hold(schemas["status"], n, "status of node %d" % n["node"])
        folder = os.path.join(c.data, "node1", "coordination")
        hold(schemas["fsck"], json.loads(run("coordination", "fsck", folder, "--json").stdout), "fsck")
        for command in ZK:
            # The server is named behind the command, too.
            said = run("zk", *command.split(), "--json", "--server", "127.0.0.71:2181")
            assert said.returncode == 0, said.stderr
            hold(schemas["zk"], json.loads(said.stdout), command)
        wrong = json.loads(run("datastore", "list", "--json", *data).stdout)
        wrong["datastores"][0]["copies"] = "two"
        assert list(schemas["datastores"].iter_errors(wrong)), "the schema takes anything"
        listed = run("datastore", "list", *data).stdout
        assert "ds1" in listed and "10.0 GiB" in listed and "mount -t nfs" in listed, listed
        print(listed, end="")
        print("held to their schemas: %s" % ", ".join("%s (%d)" % i for i in sorted(held.items())))


main()
