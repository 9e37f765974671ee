#!/usr/bin/env python3
"""Runs cases on a Kubernetes cluster; `scripts/test-k8s` calls it.

  run.py --image IMAGE [--list] [--keep] [PART...]

A part is a module of cases/. Its functions whose names begin with `case_` run in the order of the file; each takes the
release that is installed for all of them and gives back what it saw, or raises; `NotRun` where the cluster lacks what it
wants. A function `before` runs first, `after` always last. `NEEDS_MACHINES = True`: only on the cluster of
tests/k8s/cluster. `ALONE = True`: the release is uninstalled before, and the part installs what it wants.
"""

import argparse
import importlib
import inspect
import pathlib
import sys
import time
import traceback

import kube
import spark_jobs

# Those that want images of stock Spark, which are large.
WITH_SPARK = {"locality", "spark", "life"}
PARTS = ["install", "upgrade", "volumes", "storage", "pods", "locality", "spark", "life", "badinput", "documents", "uninstall"]


def cases_of(module):
    found = [
        (name, function) for name, function in inspect.getmembers(module, inspect.isfunction) if name.startswith("case_")
    ]
    return sorted(found, key=lambda case: inspect.getsourcelines(case[1])[1])


def attempt(function, release):
    """The outcome, and what the function saw or what went wrong."""
    try:
        return "passed", str(function(release) or "")
    except kube.NotRun as reason:
        return "not run", str(reason)
    except Exception as error:  # A case may fail in any way; the others go on.
        place = traceback.extract_tb(error.__traceback__)[-1]
        return "FAILED", f"{error} ({pathlib.Path(place.filename).name}:{place.lineno})"


class Table:
    def __init__(self):
        self.rows = []

    def row(self, part, name, outcome, seconds, seen):
        self.rows.append((part, name, outcome, seconds))
        first, *rest = (seen or "").splitlines() or [""]
        print(f"{outcome:7} {part}: {name} ({seconds:.0f} s) {first}", flush=True)
        for line in rest[-40:]:
            print(f"          {line}", flush=True)

    def end(self):
        """Prints the table; the exit code."""
        width = max((len(name) for _, name, _, _ in self.rows), default=0)
        print()
        for part, name, outcome, seconds in self.rows:
            print(f"{part:10} {name:{width}} {outcome:7} {seconds:6.0f} s")
        count = {outcome: sum(1 for row in self.rows if row[2] == outcome) for outcome in ("passed", "FAILED", "not run")}
        print(f"{count['passed']} passed, {count['FAILED']} failed, {count['not run']} not run")
        return 1 if count["FAILED"] else 0


def run_part(part, release, table, only):
    module = importlib.import_module(f"cases.{part}")
    machines = kube.Machines.here()
    if hasattr(module, "before"):
        began = time.monotonic()
        outcome, seen = attempt(module.before, release)
        if outcome != "passed":
            table.row(part, "before", outcome, time.monotonic() - began, seen)
            return
    for name, case in cases_of(module):
        title = name.removeprefix("case_").replace("_", " ")
        if only.replace(" ", "_") not in name:
            continue
        wants = getattr(case, "needs_machines", getattr(module, "NEEDS_MACHINES", False))
        if wants and not machines:
            table.row(part, title, "not run", 0, "wants the nodes of tests/k8s/cluster")
            continue
        began = time.monotonic()
        outcome, seen = attempt(case, release)
        table.row(part, title, outcome, time.monotonic() - began, seen)
    if hasattr(module, "after"):
        outcome, seen = attempt(module.after, release)
        if outcome != "passed":
            table.row(part, "after", outcome, 0, seen)


def prepare(part, release):
    """Installs the release as the part wants it, or takes it away."""
    module = importlib.import_module(f"cases.{part}")
    if getattr(module, "ALONE", False):
        release.uninstall()
    else:
        release.install(**getattr(module, "VALUES", {}))
        release.wait()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--image", required=True, help="of SteadFS, known to every node")
    parser.add_argument("--only", default="", help="cases whose names hold this, as the table has them or as the functions")
    parser.add_argument("--keep", action="store_true", help="leave the release installed")
    parser.add_argument("--namespace", default="steadfs")
    parser.add_argument("parts", nargs="*", metavar="PART", help=" ".join(PARTS))
    arguments = parser.parse_args()
    here = pathlib.Path(__file__).parent
    sys.path.insert(0, str(here))
    known = [part for part in PARTS if (here / "cases" / f"{part}.py").exists()]
    unknown = [part for part in arguments.parts if part not in known]
    if unknown:
        parser.error(f"no such part: {' '.join(unknown)}; there are {' '.join(known)}")
    release = kube.Release(arguments.image, namespace=arguments.namespace)
    table = Table()
    parts = arguments.parts or known
    try:
        for number, part in enumerate(parts):
            # Not beside `install`, which measures processors.
            if number == (parts[0] == "install") and WITH_SPARK & {*parts}:
                spark_jobs.load_images_early()
            began = time.monotonic()
            outcome, seen = attempt(lambda release, part=part: prepare(part, release), release)
            if outcome == "passed":
                run_part(part, release, table, arguments.only)
            else:
                table.row(part, "installation", outcome, time.monotonic() - began, seen)
    finally:
        if not arguments.keep:
            release.uninstall()
    if not table.rows:
        sys.exit(f"no case of {' '.join(parts)} has {arguments.only!r} in its name")
    sys.exit(table.end())


if __name__ == "__main__":
    main()
