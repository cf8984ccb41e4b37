#!/usr/bin/env python3
"""Runs a coordination server as a cluster's nodes do, with TLS demanded between the servers and a MAC on their datagrams:
node.py TRIVET ZOO_CFG makes a node.toml of the zoo.cfg and becomes `trivet serve`."""
import os, re, sys

trivet, cfg = sys.argv[1:]
text = open(cfg).read()
data = re.search(r"^dataDir=(.*)$", text, re.M).group(1)
client = re.search(r"^clientPort=(\d+)$", text, re.M).group(1)
servers = re.findall(r"^server\.(\d+)=([^:]+):(\d+):(\d+)$", text, re.M)
key, toml = os.path.join(data, "cluster.key"), os.path.join(data, "node.toml")
with open(os.open(key, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as f:
    f.write("5a" * 32 + "\n")
with open(toml, "w") as f:
    f.write('version = 1\ncluster = "bad-night"\nnode = %s\nkey_file = "%s"\ndata = "%s/node"\nquorum_tls = "required"\n' % (
        open(os.path.join(data, "myid")).read().strip(), key, data))
    f.write("[ports]\nclient = %s\nquorum = %s\nelection = %s\n[nodes]\n" % ((client,) + servers[0][2:]))
    f.writelines('%s = "%s"\n' % (number, host) for number, host, _, _ in servers)
os.execvp(trivet, [trivet, "serve", "--config", toml, "--roles", "coordination"])
