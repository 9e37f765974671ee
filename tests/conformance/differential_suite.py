"""Random operations by the stock client on Apache HDFS and on SteadFS: outcomes, classes of errors and what is left compared.

differential_suite.py --binary STEADFS [--seed N] [--cases N] [--length N] [--replay FILE]

What was found once lies in differential/cases, a file each, and is tried first. Differences that stay are in
docs/SEMANTICS.md.
"""

import argparse
import json
import random
import subprocess
import sys

from cluster import Cluster
from peer import HERE, Peer, command, compile_java, write_conf
from suite import Suite

# Some two cases a second.
CASES, LENGTH, SEED = 120, 30, 1
SECONDS = 3600
GROUPS = {"ann": ["staff"], "bob": ["eng", "staff"]}


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--binary", required=True)
    arguments.add_argument("--seed", type=int, default=SEED, help="0 draws one")
    arguments.add_argument("--cases", type=int, default=CASES)
    arguments.add_argument("--length", type=int, default=LENGTH)
    arguments.add_argument("--replay", help="a file of operations instead of random ones")
    options = arguments.parse_args()
    mapping = ";".join(f"{user}={','.join(groups)}" for user, groups in GROUPS.items())
    groups = ", ".join(f"{user} = {json.dumps(names)}" for user, names in GROUPS.items())
    suite = Suite()
    with (Peer(2, {"hadoop.user.group.static.mapping.overrides": mapping}) as peer,
          Cluster(options.binary, "--min-block-size", 16, "--replication", 2,
                  "--set", f"users.groups={{{groups}}}", datanodes=2) as ours):
        conf = write_conf(ours.folder / "conf-differential", {"hadoop.tmp.dir": ours.folder / "tmp"}, "ERROR")
        classes = compile_java([HERE / "differential" / "Differential.java"], ours.folder / "differential")

        def run(*words, stdin=None):
            line = command(conf, "Differential", peer.url, ours.url, *words, extra=[classes], options=["-XX:+UseSerialGC"])
            return subprocess.run(line, stdin=stdin, stderr=subprocess.DEVNULL, capture_output=False, text=True,
                                  stdout=subprocess.PIPE, timeout=SECONDS)

        def replay(file):
            with open(file, encoding="utf-8") as lines:
                done = run("-", stdin=lines)
            if done.returncode:
                raise AssertionError(done.stdout)

        if options.replay:
            suite.check(options.replay, replay, options.replay)
            return suite
        for file in sorted((HERE / "differential" / "cases").glob("*.txt")):
            suite.check(file.stem, replay, file)
        seed = options.seed or random.randrange(1 << 40)
        print(f"seed {seed}, {options.cases} cases of {options.length} operations", flush=True)
        done = run(seed, options.cases, options.length)
        sys.stdout.write(done.stdout.replace(" passed, ", " cases alike, ").replace(" failed\n", " not\n"))

        def alike():
            if done.returncode:
                raise AssertionError("Apache HDFS and SteadFS differ: see above")

        suite.check("random cases", alike)
    return suite


if __name__ == "__main__":
    main().end()
