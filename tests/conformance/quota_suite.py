"""Quotas and storage policies: the same commands for Apache HDFS and for ours must say the same, word by word.

quota_suite.py --binary STEADFS            wants PEER (scripts/setup peer)

A line of a script is a user, a program (dfs, dfsadmin, storagepolicies, or `call` of java/Quotas.java) and its arguments.
"""

import argparse
import re

from cluster import Cluster
from peer import Peer, Tools
from suite import Suite, has, same

PROGRAMS = {"dfs": Tools.SHELL, "dfsadmin": "org.apache.hadoop.hdfs.tools.DFSAdmin",
            "storagepolicies": "org.apache.hadoop.hdfs.tools.StoragePolicyAdmin", "call": "Quotas"}
KEEP = 2**63 - 1
# How many nodes were tried is Apache HDFS's own affair.
EXCLUDED = re.compile(r"(no|\d+) node\(s\) are excluded")


class Both:
    def __init__(self, tools, urls):
        self.tools = tools
        self.urls = urls

    def say(self, url, line):
        user, program, *words = line.split()
        words = ["" if word == "''" else word for word in words]
        code, out, errors = self.tools.run(PROGRAMS[program], "-D", f"fs.defaultFS={url}", *words, user=user)
        text = (out + errors).replace(url.removeprefix("hdfs://"), "HOST")
        return code, EXCLUDED.sub("… node(s) are excluded", text).strip()

    def run(self, script):
        """What both say to each line must be the same; gives what was said."""
        said = []
        for line in filter(None, map(str.strip, script.splitlines())):
            theirs, ours = (self.say(url, line) for url in self.urls)
            if ours != theirs:
                raise AssertionError(f"{line}: Apache HDFS says {theirs}, this says {ours}")
            said.append(ours)
        return said


def names(both):
    said = both.run(f"""
        root dfs -mkdir -p /n/a
        root dfs -count -q -v /n
        root dfsadmin -setQuota 3 /n
        root dfs -count -q -v /n
        root dfs -count -u -v /n
        root dfs -mkdir /n/b
        root dfs -mkdir /n/c
        root call mkdirs /n/c/d/e
        root call mkdirs /n/a/b/c
        root call put /n/f 10
        root dfs -touchz /n/f
        root call usage /n
        root call summary /n
        root dfsadmin -setQuota 0 /n
        root dfsadmin -setQuota -1 /n
        root dfsadmin -setQuota 2x /n
        root dfsadmin -setQuota 1k /n
        root dfs -count -q -h /n
        root dfsadmin -clrQuota /n
        root dfs -count -q /n
        root dfsadmin -setQuota 5 /none
        root call set-quota /n -2 {KEEP}
        root call set-quota /n 0 {KEEP}
        root call usage /n
        root call set-quota /n {KEEP} {KEEP}
        root call set-quota /n -1 -1
        root call usage /n
        root call usage /none
        root call summary /none
    """)
    has(said[6][1], "The NameSpace quota (directories and files) of directory /n is exceeded: quota=3 file count=4")


def who_may(both):
    both.run(f"""
        root dfs -mkdir /w
        root dfs -chown ann:ann /w
        ann dfsadmin -setQuota 5 /w
        ann dfsadmin -clrQuota /w
        ann dfsadmin -setSpaceQuota 5 /w
        ann dfsadmin -clrSpaceQuota /w
        ann call set-quota /none 5 {KEEP}
        root call put /w/f 10
        root dfsadmin -setQuota 5 /w/f
        root call set-quota /w/f/g 5 {KEEP}
        root dfsadmin -clrSpaceQuota /w /none /w/f
        root dfsadmin -safemode enter
        root dfsadmin -clrSpaceQuota /w
        root dfsadmin -safemode leave
        ann call usage /w
    """)


def the_root(both):
    both.run(f"""
        root dfs -count -q -v /
        root dfs -count -u /
        root dfsadmin -setSpaceQuota 1t /
        root dfs -count -q /
        root dfsadmin -clrSpaceQuota /
        root dfsadmin -setQuota 1000000 /
        root dfs -count -q -h /
        root dfsadmin -clrQuota /
        root dfs -count -q /
        root call set-quota / {KEEP - 1} {KEEP}
        root dfs -count -q /
        root dfsadmin -clrQuota /
    """)


def space(both):
    both.run("""
        root dfs -mkdir /s
        root call put /s/f 100
        root call usage /s/f
        root dfsadmin -setSpaceQuota 3m /s
        root dfs -count -q -v /s
        root dfs -count -q -h -v /s
        root call put /s/g 100
        root call put /s/h 100 3
        root call put /s/i 100 4
        root dfs -count -q -v /s
        root call append /s/f 100
        root call append-block /s/f 100
        root dfs -setrep 3 /s/f
        root call summary /s
        root dfsadmin -setSpaceQuota 1k /s
        root dfs -setrep 5 /s/f
        root call append /s/f 1
        root call append-block /s/f 1
        root call truncate /s/f 10
        root call truncate /s/f 0
        root call put /s/z 0
        root call put /s/z 1
        root dfsadmin -setSpaceQuota 0 /s
        root dfs -count -q /s
        root dfsadmin -setSpaceQuota 1.5g /s
        root dfsadmin -setSpaceQuota
        root dfsadmin -clrSpaceQuota /s
        root call summary /s
    """)


def moving(both):
    both.run("""
        root dfs -mkdir -p /m/s/t /m/d
        root dfsadmin -setQuota 2 /m/d
        root dfs -mkdir /m/d/x
        root call rename /m/s /m/d/s
        root dfs -mv /m/s /m/d/s
        root call replace /m/s /m/d/x
        root call replace /m/s/t /m/d/x
        root dfs -count -q /m/d /m/s /m
        root dfsadmin -setQuota 1 /m/d
        root call replace /m/d/x /m/d/y
        root call rename /m/d/y /m/d/z
        root call put /m/a 100
        root call put /m/b 100 3
        root call put /m/c 100 3
        root dfsadmin -setSpaceQuota 100 /m
        root call concat /m/b /m/a
        root call concat /m/a /m/b
        root call summary /m
        root dfsadmin -clrSpaceQuota /m
    """)


def types(both):
    both.run(f"""
        root dfs -mkdir /t
        root call set-policy /t ONE_SSD
        root call put /t/f 100 3
        root call summary /t
        root call summary /t/f
        root dfsadmin -setSpaceQuota 2m -storageType SSD /t
        root dfs -count -q -t -v /t
        root dfs -count -q -t ssd,disk -v /t
        root dfs -count -u -t -v /t
        root dfs -count -q -t all -v /t
        root call usage /t
        root dfsadmin -setSpaceQuota 1k -storageType SSD /t
        root call put /t/j 100 3
        root call append /t/f 1
        root dfs -setrep 5 /t/f
        root call usage /t
        root dfs -mkdir /t/hot
        root call set-policy /t/hot HOT
        root call put /t/hot/j 100 3
        root call usage /t
        root dfsadmin -setSpaceQuota 1k -storageType DISK /t
        root call put /t/hot/k 100 3
        root dfs -setrep 9 /t/f
        root dfsadmin -setSpaceQuota 1m -storageType RAM_DISK /t
        root dfsadmin -setSpaceQuota 1m -storageType BAD /t
        root dfsadmin -setSpaceQuota 1m -storageType PROVIDED /t
        root dfsadmin -clrSpaceQuota -storageType SSD /t
        root call set-quota /t 5 100 SSD
        root call set-quota /t {KEEP} 500 RAM_DISK
        root call usage /t
        root call summary /t
    """)


def policies(both):
    both.run("""
        root dfs -mkdir -p /p/a/b /p/c
        root storagepolicies -listPolicies
        root storagepolicies -getStoragePolicy -path /p
        root call policy /p
        root call put /p/f 100
        root storagepolicies -setStoragePolicy -path /p -policy COLD
        root storagepolicies -getStoragePolicy -path /p
        root storagepolicies -getStoragePolicy -path /p/f
        root call status /p/a
        root call list /p
        ann call status /p/f
        root storagepolicies -setStoragePolicy -path /p/a -policy hot
        root storagepolicies -getStoragePolicy -path /p/a/b
        root storagepolicies -setStoragePolicy -path /p/a -policy NONSENSE
        root storagepolicies -setStoragePolicy -path /none -policy HOT
        root storagepolicies -getStoragePolicy -path /none
        root storagepolicies -unsetStoragePolicy -path /none
        root storagepolicies -unsetStoragePolicy -path /p/a
        root storagepolicies -getStoragePolicy -path /p/a
        root storagepolicies -satisfyStoragePolicy -path /p
        root storagepolicies -satisfyStoragePolicy -path /none
        root call set-policy /p/f LAZY_PERSIST
        root call set-policy /p LAZY_PERSIST
        root call set-policy /p PROVIDED
        root call set-policy /p ALL_NVDIMM
        root call status /p
        root call set-policy /p ''
        root call set-policy /p WARM
        root call create /p/g 100 ONE_SSD
        root call status /p/g
        root call create /p/h 100 BAD
        root call create /p/i 100 LAZY_PERSIST
        root call status /p/i
        root call set-policy /p/i HOT
        root call unset-policy /p/i
        root call unset-policy /p/g
        root call status /p/g
        root call summary /p
        ann call set-policy /p HOT
        ann call unset-policy /p
        ann call policy /p
        root dfs -chmod 700 /p
        ann call policy /p
        ann call policy /p/f
        ann call set-policy /p/f HOT
        root call set-policy / COLD
        root call policy /p/c
        root call unset-policy /
        root call policy /
    """)


def placement(both):
    """Both have nothing but disks."""
    both.run("""
        root dfs -mkdir /all /warm /cold
        root call set-policy /all ALL_SSD
        root call put /all/x 100 3
        root call types /all/x
        root call set-policy /warm WARM
        root call put /warm/x 100 3
        root call types /warm/x
        root call set-policy /cold COLD
        root call put /cold/x 100 3
    """)


def sums_ask_every_folder(both):
    both.run("""
        root dfs -mkdir -p /r/a/b /r/open
        root dfs -chmod 700 /r/a/b
        ann call usage /r
        ann call summary /r
        ann dfs -count /r
        ann dfs -du /r
        ann call summary /r/open
        root dfs -chmod 711 /r
        ann call summary /r
        root dfsadmin -setQuota 50 /r
        ann call usage /r
        root call usage /r
    """)


def types_follow_their_policy(both):
    """Where a policy changes, Apache HDFS's sums of a quota stay what they were; ours are those of its content summary."""
    url = both.urls[1]
    for line in ["root dfs -mkdir /f", "root call put /f/x 100 3", "root call set-policy /f ALL_SSD"]:
        same(both.say(url, line)[0], 0, line)
    has(both.say(url, "root call usage /f")[1], "SSD=300/-1")
    same(both.say(url, "root call set-policy /f HOT")[0], 0)
    has(both.say(url, "root call usage /f")[1], "SSD=0/-1 DISK=300/-1")


def later_features_are_refused(both):
    url = both.urls[1]
    for line, words in [("root dfsadmin -allowSnapshot /", "snapshots are not supported yet"),
                        ("root dfs -createSnapshot /", "snapshots are not supported yet")]:
        code, text = both.say(url, line)
        same(code != 0, True, line)
        has(text, words)


CHECKS = [names, who_may, the_root, space, moving, types, policies, placement, sums_ask_every_folder,
          types_follow_their_policy, later_features_are_refused]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", required=True)
    parser.add_argument("--only", nargs="*", help="names of checks")
    options = parser.parse_args()
    suite = Suite()
    small = ("--min-block-size", "1024", "--set", "superuser=root")
    with Peer(3) as peer, Cluster(options.binary, *small) as cluster, \
            Tools(cluster.folder, level="FATAL", programs=["Quotas.java"]) as tools:
        both = Both(tools, [peer.url, cluster.url])
        for check in CHECKS:
            if not options.only or check.__name__ in options.only:
                suite.check(check.__name__, check, both)
    suite.end()


if __name__ == "__main__":
    main()
