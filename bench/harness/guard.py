"""Counts the instructions of the hot paths under callgrind and compares them with what is expected.

guard.py [--bless] [--binary STEADFS-GUARD] [--counts FILE] [--tolerance SHARE] [CASE...]

Times are noisy where machines are shared; instructions are not. A case that takes more than `tolerance` above its count in
bench/guard.tsv fails by its name; one that takes as much less is told, so that the gain is written down (--bless) and kept. What is
counted is one run of a case on one thread with the same input, caches warm, as user code: system calls cost nothing here.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
COUNTS = ROOT / "bench" / "guard.tsv"
TOLERANCE = 0.05
# The keys of hash maps are drawn anew every time: of a few counts the smallest is the path's own.
TRIES = 3
CASE_SECONDS = 300
TOTAL = re.compile(r"Collected\s*:\s*(\d+)")
HEAD = """# Instructions of one run of each hot path (bench/src/inner), counted by callgrind in a release build of x86-64: scripts/test guard
# fails where one takes 5 % more. `scripts/bench guard --bless` writes this file.
"""


class Failure(Exception):
    """The guard cannot do its work; its text says why."""


def count(binary, case):
    """The instructions of one run of a case."""
    with tempfile.TemporaryDirectory(prefix="steadfs-guard-") as folder:
        line = ["valgrind", "--tool=callgrind", "--toggle-collect=*steadfs_guard_measured*", "--collect-atstart=no",
                f"--callgrind-out-file={folder}/out", str(binary), case]
        # The allocator gives memory back by the clock if it is let; nothing here may depend on a clock.
        environment = {**os.environ, "TMPDIR": folder, "_RJEM_MALLOC_CONF": "dirty_decay_ms:-1,muzzy_decay_ms:-1"}
        done = subprocess.run(line, capture_output=True, text=True, timeout=CASE_SECONDS, env=environment)
        found = TOTAL.search(done.stderr)
        if done.returncode or not found or int(found[1]) == 0:
            raise Failure(f"{case}: callgrind counted nothing: {done.stderr[-2000:]}")
        return int(found[1])


def least(binary, case, expected, tolerance):
    """The smallest of a few counts; without an expectation, or above it, all of them are made."""
    found = count(binary, case)
    for _ in range(TRIES - 1):
        if expected is not None and found <= expected * (1 + tolerance):
            break
        found = min(found, count(binary, case))
    return found


def read(path):
    """Expected counts by case."""
    if not path.exists():
        return {}
    rows = (line.split("\t") for line in path.read_text().splitlines() if line and not line.startswith("#"))
    return {name: int(number) for name, number in rows}


def write(path, counts):
    path.write_text(HEAD + "".join(f"{name}\t{number}\n" for name, number in counts.items()))


def judge(case, found, expected, tolerance=TOLERANCE):
    """Whether a case passes, and the line that says so."""
    if expected is None:
        return False, f"{case}: {found:,} instructions, but none are expected: scripts/bench guard --bless"
    change = found / expected - 1
    line = f"{case}: {found:,} instructions, {change:+.1%} of the {expected:,} expected"
    if change > tolerance:
        return False, f"{line}: DEARER. Make it as cheap again, or say why in the commit that runs scripts/bench guard --bless"
    return True, line + (": cheaper; keep it by scripts/bench guard --bless" if change < -tolerance else "")


def build():
    """The program that runs a case, for release."""
    target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    done = subprocess.run(["cargo", "build", "--release", "--locked", "--bin", "steadfs-guard"], cwd=ROOT)
    if done.returncode:
        raise Failure("the guard does not build")
    return target / "release" / "steadfs-guard"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--bless", action="store_true")
    parser.add_argument("--binary", type=Path)
    parser.add_argument("--counts", type=Path, default=COUNTS)
    parser.add_argument("--tolerance", type=float, default=TOLERANCE)
    parser.add_argument("cases", nargs="*")
    options = parser.parse_args()
    if not shutil.which("valgrind"):
        raise Failure("valgrind is not here: scripts/setup guard")
    binary = options.binary.resolve() if options.binary else build()
    listed = subprocess.run([binary], capture_output=True, text=True, check=True).stdout
    known = [line.split("\t")[0] for line in listed.splitlines()]
    wanted = options.cases or known
    expected = read(options.counts)
    # Counts do not depend on what else runs.
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        looked_for = {} if options.bless else expected
        found = dict(zip(wanted, pool.map(lambda case: least(binary, case, looked_for.get(case), options.tolerance), wanted)))
    if options.bless:
        kept = {name: number for name, number in {**expected, **found}.items() if name in known}
        write(options.counts, {name: kept[name] for name in known if name in kept})
        print(f"{len(found)} counts are written to {options.counts}")
        return
    passed = 0
    for case in wanted:
        good, line = judge(case, found[case], expected.get(case), options.tolerance)
        passed += good
        print(f"  {line}", flush=True)
    missing = [name for name in expected if name not in known]
    for name in missing:
        print(f"  {name}: is expected, but there is no such case: FAILED", flush=True)
    failed = len(wanted) - passed + len(missing)
    print(f"{passed} passed, {failed} failed")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    try:
        main()
    except Failure as failure:
        sys.exit(f"guard: {failure}")
