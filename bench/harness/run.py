"""Measures SteadFS beside Apache HDFS; `scripts/bench` calls it.

run.py --binary STEADFS --bench STEADFS-BENCH [--quick] [--busy-ok] [--rounds N] [--patience S] [--list] [NAME...]

Both systems run all the time; rounds alternate between them, and who comes first alternates as well. The first round warms up
and is not counted; what is told is the median of the others.
"""

import argparse
import datetime
import json
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import machine
import report
from machine import Refused
from measures import BENCHMARKS, Context
import growth
import jobs
import scale
from sides import DURABILITY, SETTINGS, Failure, Ours, Theirs, jars, refuse_debug, refuse_unequal

ROOT = Path(__file__).resolve().parent.parent.parent
MOST_CHARACTERS = 600
ALL = [*BENCHMARKS, *scale.BENCHMARKS, *growth.BENCHMARKS, *jobs.BENCHMARKS]


def medians(rounds):
    """The median of every figure over the rounds of one side."""
    return {key: statistics.median(found[key] for found in rounds) for key in rounds[0]
            if isinstance(rounds[0][key], (int, float))}


def measure(case, rounds):
    """All rounds of a case, in turns; the first one warms up unless there is only one."""
    count = case.rounds or rounds
    found = {side: [] for side in case.sides}
    for number in range(count + (count > 1)):
        for side in sorted(case.sides, reverse=bool(number % 2)):
            result = case.measure(side)
            if number or count == 1:
                found[side].append(result)
    middle = {side: medians(results) for side, results in found.items()}
    other = next((side for side in case.sides if side != "ours"), None)
    a, b = middle["ours"]["value"], middle[other]["value"] if other else None
    return {
        "label": case.label, "unit": case.unit, "larger_is_better": case.larger_is_better, "rounds": count,
        "sides": {side: {"median": middle[side], "values": [result["value"] for result in results]}
                  for side, results in found.items()},
        "ratio": None if not other else (a / b if case.larger_is_better else b / a) if a and b else None,
        "aims": [{"number": aim.number, "what": aim.what, "reached": bool(aim.reached(middle))} for aim in case.aims],
    }


def versions(binary):
    hadoop = next(jars().glob("lib/hadoop-hdfs-client-*.jar")).stem.removeprefix("hadoop-hdfs-client-")
    git = subprocess.run(["git", "-C", ROOT, "describe", "--always", "--dirty", "--abbrev=12"], capture_output=True, text=True)
    ours = subprocess.run([binary, "--version"], capture_output=True, text=True, check=True).stdout.strip()
    return {"steadfs": ours, "commit": git.stdout.strip() or "unknown", "hadoop": hadoop}


def chosen(names, quick):
    known = {benchmark.name: benchmark for benchmark in ALL}
    unknown = [name for name in names if name not in known]
    if unknown:
        raise Refused(f"no benchmark is called {', '.join(unknown)}; there are: {' '.join(known)}")
    usual = [benchmark for benchmark in ALL if (benchmark.quick or not quick) and not benchmark.by_name]
    return [known[name] for name in names] or usual


def seen_settings(bench, fs):
    return json.loads(subprocess.run([bench, "settings", "--fs", fs], capture_output=True, text=True, check=True).stdout)


def run(options):
    refuse_debug(options.binary, options.bench)
    wanted = chosen(options.names, options.quick)
    about = {**machine.facts(), "versions": versions(options.binary)}
    patience = options.patience

    def idle():
        if options.busy_ok:
            return machine.busy_share()
        return machine.wait_until_idle(patience)

    about["busy_before"] = round(idle(), 3)
    work = Path(tempfile.mkdtemp(prefix="steadfs-bench-"))
    about["file_system"] = machine.file_system(work)
    rounds = options.rounds or (3 if options.quick else 5)
    failed = []
    try:
        with Ours(options.binary) as ours, Theirs() as theirs:
            settings = {side.name: {**seen_settings(options.bench, side.fs), **side.stated()} for side in (ours, theirs)}
            refuse_unequal(settings["ours"], settings["theirs"])
            context = Context(options.bench, options.binary, ours, theirs, work, options.quick)
            try:
                for benchmark in wanted:
                    try:
                        one(context, benchmark, rounds, about, settings, idle, options)
                    except (Failure, subprocess.SubprocessError, OSError, AssertionError) as error:
                        failed.append(benchmark.name)
                        print(f"{benchmark.name}: FAILED: {str(error)[:MOST_CHARACTERS]}", flush=True)
                        context.delete_new_files()
            finally:
                context.close()
    finally:
        shutil.rmtree(work, ignore_errors=True)
    if options.results == ROOT / "bench" / "results":
        report.write(ROOT, ALL)
    if failed:
        raise Failure(f"not measured: {' '.join(failed)}")


def one(context, benchmark, rounds, about, settings, idle, options):
    """Measures one benchmark and writes its file down at once."""
    busy = idle()
    print(f"{benchmark.name}: {benchmark.what}", flush=True)
    cases = []
    for case in benchmark.cases(context):
        result = measure(case, rounds)
        context.delete_new_files()
        cases.append(result)
        print("  " + report.line(result), flush=True)
    date = datetime.date.today().isoformat()
    told = {"name": benchmark.name, "what": benchmark.what, "date": date, "quick": options.quick,
            "machine": {**about, "busy_at_start": round(busy, 3)},
            "settings": settings, "durability": DURABILITY, "stated": SETTINGS, "cases": cases}
    options.results.mkdir(parents=True, exist_ok=True)
    (options.results / f"{date}-{benchmark.name}.json").write_text(json.dumps(told, indent=1, ensure_ascii=False) + "\n")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--binary", type=Path, required=True)
    parser.add_argument("--bench", type=Path, required=True)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--busy-ok", action="store_true")
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--patience", type=float, default=300)
    parser.add_argument("--results", type=Path, default=ROOT / "bench" / "results")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("names", nargs="*")
    options = parser.parse_args()
    if options.list:
        for benchmark in ALL:
            when = ' (only by its name)' if benchmark.by_name else '' if benchmark.quick else ' (not with --quick)'
            print(f"{benchmark.name:16}{benchmark.what}{when}")
        return
    # Both clusters are taken down when it is told to end, as `timeout` does.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended"))
    try:
        run(options)
    except (Refused, Failure) as error:
        sys.exit(f"bench: {error}")


if __name__ == "__main__":
    main()
