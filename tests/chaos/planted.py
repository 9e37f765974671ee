#!/usr/bin/env python3
"""Plants bugs one at a time and looks whether the simulation finds them.

    planted.py [--seeds N] [--jobs N] [--work FOLDER] [--check] [NAME...]

Each of tests/planted/*.patch is applied to a copy of the tree, which is built into a target folder of its own (the first
build takes minutes, each further one seconds). Ends with an error if a bug was not found within N seeds (200), or if the tree
without any fails. With --check only looks whether each can still be planted."""

import argparse
import os
import pathlib
import re
import shutil
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
LEFT_OUT = {".git", "target"}


def copy_tree(to):
    """The tree as it is now. What did not change keeps its time, so that it is not compiled again."""
    there = set()
    for folder, folders, files in os.walk(ROOT):
        folders[:] = [name for name in folders if name not in LEFT_OUT]
        for name in files:
            source = pathlib.Path(folder, name)
            target = to / source.relative_to(ROOT)
            there.add(target)
            if target.is_file() and target.read_bytes() == source.read_bytes():
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, target)
    for path in to.rglob("*"):
        if path.is_file() and path not in there:
            path.unlink()


def build(tree, target):
    environment = {**os.environ, "CARGO_TARGET_DIR": str(target)}
    command = ["cargo", "build", "--locked", "--workspace", "--bin", "steadfs-sim"]
    done = subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"it does not build:\n{done.stderr[-3000:]}")
    return target / "debug" / "steadfs-sim"


def simulate(program, seeds, jobs):
    """The first seed that fails, and why; none if none does."""
    command = [str(program), "--seeds", str(seeds), "--jobs", str(jobs)]
    done = subprocess.run(command, capture_output=True, text=True)
    failed = re.findall(r"^seed (\d+): FAILED.*\n  (.*)$", done.stdout, re.MULTILINE)
    if failed:
        return min((int(seed), why) for seed, why in failed)
    # A panic or a hang is found as well.
    return None if done.returncode == 0 else (0, done.stderr.strip()[-300:] or "it ended badly")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=200)
    parser.add_argument("--jobs", type=int, default=2)
    cache = pathlib.Path(os.environ.get("STEADFS_CACHE", pathlib.Path.home() / ".cache/steadfs"))
    parser.add_argument("--work", type=pathlib.Path, default=cache / "planted")
    parser.add_argument("--check", action="store_true")
    parser.add_argument("names", nargs="*")
    options = parser.parse_args()
    patches = sorted((ROOT / "tests/planted").glob("*.patch"))
    if options.names:
        patches = [patch for patch in patches if any(name in patch.name for name in options.names)]
    if options.check:
        misfits = [patch.stem for patch in patches
                   if subprocess.run(["git", "apply", "--check", str(patch)], cwd=ROOT, check=False).returncode != 0]
        if misfits:
            sys.exit(f"the tree has changed under {', '.join(misfits)}: make these patches anew")
        return 0
    tree, target = options.work / "tree", options.work / "target"
    tree.mkdir(parents=True, exist_ok=True)
    copy_tree(tree)
    sound = simulate(build(tree, target), 20, options.jobs)
    if sound:
        sys.exit(f"without any planted bug seed {sound[0]} fails: {sound[1]}")
    missed = 0
    for patch in patches:
        began = time.monotonic()
        subprocess.run(["git", "apply", str(patch)], cwd=tree, check=True)
        found = simulate(build(tree, target), options.seeds, options.jobs)
        copy_tree(tree)
        missed += not found
        text = f"found at seed {found[0]}: {found[1][:160]}" if found else "MISSED"
        print(f"{patch.stem}: {text} ({time.monotonic() - began:.0f} s)", flush=True)
    print(f"{len(patches) - missed} passed, {missed} failed")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
