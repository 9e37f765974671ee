"""The machine and its processes: what it is, whether it is busy, what a process has used."""

import os
import platform
import re
import subprocess
import time
from pathlib import Path

# The share of all processors that others may use while something is measured.
MOST_BUSY = 0.10
LOOK_SECONDS = 3
TICKS = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")


class Refused(Exception):
    """The comparison would not be fair; its text says why, and what to do."""


def facts():
    """What the figures depend on."""
    model = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    memory = int(re.search(r"MemTotal:\s+(\d+)", Path("/proc/meminfo").read_text())[1]) / (1 << 20)
    java = subprocess.run(["java", "-version"], capture_output=True, text=True).stderr.splitlines()
    return {"processor": model[1] if model else platform.machine(), "cores": os.cpu_count(),
            "memory_gib": round(memory), "kernel": platform.release(), "java": java[0] if java else "none",
            "load_before": round(os.getloadavg()[0], 2)}


def file_system(folder):
    """The type of the file system that holds `folder`, as it is mounted (`stat -f` has one word for three of them)."""
    done = subprocess.run(["findmnt", "-n", "-o", "FSTYPE", "-T", str(folder)], capture_output=True, text=True)
    return done.stdout.strip() or "unknown"


def processor_times(text=None):
    """Ticks of all processors since the start: used, and in all. Those that a guest's host took count as used."""
    fields = [int(word) for word in (text or Path("/proc/stat").read_text()).splitlines()[0].split()[1:9]]
    idle = fields[3] + fields[4]
    return sum(fields) - idle, sum(fields)


def busy_share(seconds=LOOK_SECONDS, times=processor_times, sleep=time.sleep):
    """The share of all processors that is in use, looked at for so long."""
    used, total = times()
    sleep(seconds)
    used_then, total_then = times()
    return (used_then - used) / max(total_then - total, 1)


def busiest(count=3):
    """The programs that use most now, for a message."""
    done = subprocess.run(["ps", "-eo", "pcpu,pid,comm", "--sort=-pcpu", "--no-headers"], capture_output=True, text=True,
                          timeout=10)
    return ", ".join(" ".join(line.split()) for line in done.stdout.splitlines()[:count])


def wait_until_idle(patience, most=MOST_BUSY, share=busy_share, clock=time.monotonic, say=print):
    """Waits until nobody else works here; gives the share in use then. Refuses when that takes longer than `patience`."""
    end, told = clock() + patience, False
    while True:
        found = share()
        if found <= most:
            return found
        if clock() >= end:
            raise Refused(f"the machine is busy: {found:.0%} of its processors are in use by others ({busiest()}), and were so "
                          f"for {patience:.0f} s. Stop them, or measure all the same with --busy-ok; the results will say so")
        if not told:
            say(f"waiting: {found:.0%} of the processors are in use by others", flush=True)
            told = True


class Usage:
    """What processes use, from /proc."""

    def __init__(self, pids):
        self.pids = list(pids)

    def cpu_seconds(self):
        """User and system time of all of them, threads that have ended included."""
        total = 0
        for pid in self.pids:
            # The name in brackets may hold spaces.
            fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
            total += int(fields[11]) + int(fields[12])
        return total / TICKS

    def resident_bytes(self):
        return sum(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in self.pids) * PAGE
