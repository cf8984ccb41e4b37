#!/usr/bin/env python3
"""Answers to single NFSv3 calls, as RFC 1813 says, beside nfs-ganesha's: wrong kinds, names, guards, permissions, cookies, times, counts.

Every check asks a datastore that checks modes, and ganesha's export of a folder of ext4, the same. Where the answers differ, the
difference has to be in nfs_answers.txt with a reason; so does nothing else. All of it in namespaces of its own."""
import os, shutil, signal, subprocess, sys, tempfile, time

if os.environ.get("TRIVET_ANSWERS_INSIDE") != "1":
    os.environ["TRIVET_ANSWERS_INSIDE"] = "1"
    inside = "ip link set lo up; mount -t tmpfs tmpfs /run; mkdir -p /run/rpcbind /run/ganesha; exec \"$@\""
    os.execvp("unshare", ["unshare", "--net", "--mount", "sh", "-c", inside, "sh", sys.executable] + sys.argv)

import nfs_answers_checks as checks  # noqa: E402
from cluster import ADDRESS, HERE, TRIVET, Cluster  # noqa: E402
from nfs_answers_client import Server  # noqa: E402

GANESHA_PORT = 20490
LISTED = os.path.join(HERE, "nfs_answers.txt")
CONFIG = """
NFS_CORE_PARAM { NFS_Protocols = 3; NFS_Port = %d; MNT_Port = %d; Enable_NLM = false; Enable_RQUOTA = false; }
EXPORT_DEFAULTS { Squash = No_Root_Squash; SecType = sys, none; Anonymous_uid = 65534; Anonymous_gid = 65534; }
EXPORT { Export_Id = 1; Path = %s; Pseudo = /checked; Access_Type = RW; Protocols = 3; Transports = TCP; FSAL { Name = VFS; } }
LOG { Default_Log_Level = WARN; }
"""


def of_ganesha(folder):
    """Every check's answer."""
    export = os.path.join(folder, "export")
    os.mkdir(export, 0o777)
    config = os.path.join(folder, "ganesha.conf")
    with open(config, "w") as f:
        f.write(CONFIG % (GANESHA_PORT, GANESHA_PORT + 1, export))
    rpcbind = subprocess.Popen(["rpcbind", "-f"], stderr=subprocess.DEVNULL)
    log = os.path.join(folder, "ganesha.log")
    ganesha = subprocess.Popen(["ganesha.nfsd", "-F", "-f", config, "-L", log, "-p", os.path.join(folder, "pid")])
    try:
        return run(Server("127.0.0.1", GANESHA_PORT, GANESHA_PORT + 1, export.encode(), log=log))
    finally:
        for p in (ganesha, rpcbind):
            p.send_signal(signal.SIGTERM)
        for p in (ganesha, rpcbind):
            try:
                p.wait(10)
            except subprocess.TimeoutExpired:
                p.kill()


def of_trivet():
    with Cluster() as c:
        made = subprocess.run([TRIVET, "datastore", "--data", c.data, "create", "checked", "--permissions", "checked"], capture_output=True, text=True)
        assert made.returncode == 0, made.stdout + made.stderr
        return run(Server(ADDRESS, 2049, 2049, b"/checked"))


def run(server):
    server.root_is_everybodys()
    answers = {}
    for name, check in checks.all_checks():
        try:
            answers[name] = check(server, server.folder(name))
        except AssertionError as e:
            answers[name] = "failed: %s" % e
    return answers


def listed():
    """`check | answer of Trivet | answer of ganesha | reason`, a line each."""
    rows = {}
    for line in open(LISTED):
        if line.strip() and not line.startswith("#"):
            name, ours, theirs, reason = (part.strip() for part in line.split("|"))
            assert reason, line
            rows[name] = (ours, theirs)
    return rows


def main():
    folder = tempfile.mkdtemp(prefix="trivet-answers.")
    try:
        theirs = of_ganesha(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    ours = of_trivet()
    if "-v" in sys.argv:
        for name in ours:
            print("%s | %s | %s" % (name, ours[name], theirs[name]))
    rows = listed()
    differ = {name: (ours[name], theirs[name]) for name in ours if ours[name] != theirs[name]}
    new = {name: d for name, d in differ.items() if rows.get(name) != d}
    gone = [name for name in rows if name not in differ]
    for name, (a, b) in new.items():
        print("not listed: %s | %s | %s" % (name, a, b))
    for name in gone:
        print("listed, and not true any more: %s" % name)
    print("%d checks beside ganesha; %d answers differ, %d of them listed with a reason" % (len(ours), len(differ), len(rows)))
    assert not new and not gone, "the differences are not those of %s" % LISTED


main()
