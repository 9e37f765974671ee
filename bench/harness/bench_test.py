"""What the harness refuses, and how it judges: without a cluster, in seconds."""

import re
import subprocess
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent.parent / "tests" / "conformance")]

import guard  # noqa: E402
import machine  # noqa: E402
import measures  # noqa: E402
import report  # noqa: E402
import run  # noqa: E402
import sides  # noqa: E402
from suite import Suite, has, same  # noqa: E402


def refused(function, *arguments, **named):
    try:
        function(*arguments, **named)
    except machine.Refused as refusal:
        return str(refusal)
    raise AssertionError("it was not refused")


def program(folder, name, text):
    path = Path(folder) / name
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


def a_debug_build_is_refused():
    with tempfile.TemporaryDirectory() as folder:
        release = program(folder, "bench", "echo '{\"debug_assertions\": false}'")
        debug = program(folder, "bench-debug", "echo '{\"debug_assertions\": true}'")
        good = program(folder, "steadfs", "echo steadfs 0.1.0")
        bad = program(folder, "steadfs-debug", "echo 'steadfs 0.1.0 (debug build)'")
        sides.refuse_debug(good, release)
        has(refused(sides.refuse_debug, good, debug), "bench-debug is a debug build")
        has(refused(sides.refuse_debug, bad, release), "steadfs-debug is a debug build")


def a_busy_machine_is_waited_for_and_then_refused():
    clock = SimpleNamespace(now=0.0)
    shares, said = [0.9, 0.5, 0.02], []

    def share():
        clock.now += 3
        return shares.pop(0) if len(shares) > 1 else shares[0]

    found = machine.wait_until_idle(60, share=share, clock=lambda: clock.now, say=lambda text, **_: said.append(text))
    same(found, 0.02)
    same(len(said), 1, "times that it says that it waits")
    shares[:] = [0.8]
    text = refused(machine.wait_until_idle, 60, share=share, clock=lambda: clock.now, say=lambda *_, **__: None)
    has(text, "80% of its processors are in use")
    has(text, "--busy-ok")


def how_busy_a_machine_is_comes_from_its_ticks():
    times = iter([(100, 1000), (150, 1200)])
    same(machine.busy_share(0, times=lambda: next(times), sleep=lambda _: None), 0.25)
    same(machine.processor_times("cpu  10 0 5 80 5 0 0 0 0 0\n"), (15, 100))


def unequal_settings_are_refused_by_name():
    ours = {"block_size": 128 << 20, "replication": 3, "audit_log": False}
    sides.refuse_unequal(ours, dict(ours))
    text = refused(sides.refuse_unequal, ours, {**ours, "replication": 1})
    has(text, "replication: 3 of ours, 1 of theirs")
    assert "block_size" not in text, text
    has(refused(sides.refuse_unequal, ours, {"block_size": 128 << 20, "replication": 3}), "audit_log")


def an_unknown_benchmark_is_refused_with_the_list():
    text = refused(run.chosen, ["rpc-stat", "nonsense"], False)
    has(text, "nonsense")
    has(text, "rpc-listing")


def every_aim_has_a_benchmark():
    covered = {number for benchmark in run.ALL for number in benchmark.aims}
    same(sorted({*range(1, 20), 21, 22} - covered), [], "aims without a benchmark")


def what_takes_long_runs_by_its_name_only():
    long = [benchmark.name for benchmark in run.ALL if benchmark.by_name]
    same([name for name in long if name in [benchmark.name for benchmark in run.chosen([], False)]], [], "of the usual ones")
    same([benchmark.name for benchmark in run.chosen(long, False)], long)


def names_are_unique_and_documented():
    names = [benchmark.name for benchmark in run.ALL]
    same(len(names), len(set(names)), "names")
    page = (HERE.parent.parent / "docs" / "BENCHMARKS.md").read_text()
    same([name for name in names if f"`{name}`" not in page], [], "benchmarks that docs/BENCHMARKS.md does not name")


def rounds_alternate_and_the_first_does_not_count():
    order = []

    def measure(side):
        order.append(side)
        return {"value": 1000.0 if len(order) <= 2 else {"ours": 8.0, "theirs": 4.0}[side]}

    found = run.measure(measures.Case("x", "calls/s", measure, aims=[measures.at_least(1, 2), measures.at_least(1, 3)]), 3)
    same(order, ["ours", "theirs", "theirs", "ours", "ours", "theirs", "theirs", "ours"])
    same(found["ratio"], 2.0)
    same([aim["reached"] for aim in found["aims"]], [True, False])
    same(found["sides"]["ours"]["values"], [8.0, 8.0, 8.0])


def times_are_better_when_they_are_shorter():
    case = measures.Case("x", "s", lambda side: {"value": {"ours": 1.0, "theirs": 3.0}[side]}, larger_is_better=False)
    same(run.measure(case, 1)["ratio"], 3.0)


def lines_of_a_mount_are_read():
    text = ("one block, local, in order beside the disk: 5.20 beside 4.10 GB/s, ratio 1.27\n"
            "untar of 4,000 small files beside ext4: 3.00 beside 0.50 s, ratio of speeds 0.17\n")
    same(measures.mount_lines(text), [("one block, local, in order beside the disk", "GB/s", 5.2, 4.1, True),
                                      ("untar of 4,000 small files beside ext4", "s", 3.0, 0.5, False)])


def a_dearer_hot_path_fails_by_its_name():
    same(guard.judge("door-stat", 1049, 1000)[0], True)
    good, text = guard.judge("door-stat", 1051, 1000)
    same(good, False)
    has(text, "door-stat: 1,051 instructions, +5.1%")
    has(text, "DEARER")
    has(guard.judge("door-stat", 900, 1000)[1], "cheaper")
    same(guard.judge("new", 1, None)[0], False, "a case without a count")


def counts_survive_their_file():
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "guard.tsv"
        guard.write(path, {"a": 1, "b": 22})
        same(guard.read(path), {"a": 1, "b": 22})


def every_hot_path_has_a_count():
    text = (HERE.parent / "src" / "inner" / "mod.rs").read_text()
    names = re.findall(r'name: "([a-z-]+)"', text)
    same(sorted(guard.read(guard.COUNTS)), sorted(names), "cases of the guard")


def a_table_tells_both_sides():
    case = {"label": "64 connections", "unit": "calls/s", "ratio": 4.5, "rounds": 3,
            "sides": {"ours": {"median": {"value": 9000.0, "p50_us": 10.0}}, "theirs": {"median": {"value": 2000.0}}},
            "aims": [{"number": 1, "what": "≥ 4 × HDFS", "reached": True}]}
    text = report.table([{"name": "rpc-stat", "cases": [case]}])
    has(text, "| `rpc-stat` | 64 connections, calls/s | 9,000 (p50 µs 10) | Apache HDFS 2,000 | 4.50 | 1: ≥ 4 × HDFS, reached |")
    has(report.bars([{"name": "rpc-stat", "cases": [case]}], "t"), "4.50")


def the_list_is_told_without_building_anything():
    done = subprocess.run([sys.executable, HERE / "run.py", "--binary", "-", "--bench", "-", "--list"], capture_output=True, text=True)
    same(done.returncode, 0, done.stderr)
    has(done.stdout, "rpc-stat")


def main():
    suite = Suite()
    for check in (a_debug_build_is_refused, a_busy_machine_is_waited_for_and_then_refused,
                  how_busy_a_machine_is_comes_from_its_ticks, unequal_settings_are_refused_by_name,
                  an_unknown_benchmark_is_refused_with_the_list, what_takes_long_runs_by_its_name_only,
                  every_aim_has_a_benchmark, names_are_unique_and_documented,
                  rounds_alternate_and_the_first_does_not_count, times_are_better_when_they_are_shorter,
                  lines_of_a_mount_are_read, a_dearer_hot_path_fails_by_its_name, counts_survive_their_file,
                  every_hot_path_has_a_count, a_table_tells_both_sides, the_list_is_told_without_building_anything):
        suite.check(check.__name__.replace("_", " "), check)
    suite.end()


main()
