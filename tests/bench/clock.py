"""CPU time of two jobs done in turns: what disturbs the machine disturbs both."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")


def in_turns(things: Sequence[T], block: int, *jobs: Callable[[Sequence[T]], object]) -> list[float]:
    """Give every job each block of the things, one job after another; return things per CPU second of each job."""
    seconds = [0.0] * len(jobs)
    for start in range(0, len(things), block):
        chosen = things[start : start + block]
        for number, job in enumerate(jobs):
            before = time.process_time()
            job(chosen)
            seconds[number] += time.process_time() - before
    return [len(things) / spent for spent in seconds]


def cpu_seconds(pid: int) -> float:
    """Return the CPU seconds of a process so far; 0 where the system does not tell (it needs /proc)."""
    import os

    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def rss_mb(pid: str = "self") -> float:
    """Return the resident memory of a process now, in MB (10^6 bytes); 0 where the system does not tell."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0.0
    kilobytes = next((line.split()[1] for line in lines if line.startswith("VmRSS:")), "0")
    return round(int(kilobytes) * 1024 / 1e6, 1)
