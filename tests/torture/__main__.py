"""`make torture`: load, faults at random, and then the question whether every event was answered exactly once.

Two instances of `penchant serve` and a Kafka of its own, each a process. The faults are drawn from the seed; where
within their work they meet the processes is left to the machine, so that a seed repeats a run roughly, not exactly.
"""

import argparse
import json
import logging
import signal
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path

from tests.torture.run import torture

SHOWN = 20
"""Culprits of each kind that are printed; all of them are in the JSON file."""


def parser() -> argparse.ArgumentParser:
    """Return the command line."""
    usage = argparse.ArgumentParser(
        prog="python -m tests.torture", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    usage.add_argument("--minutes", type=float, default=3.0, help="of load and faults (default %(default)s)")
    usage.add_argument("--seed", type=int, default=None, help="of load and faults (default: the time, and it is said)")
    usage.add_argument("--rate", type=float, default=400.0, help="events a second (default %(default)s)")
    usage.add_argument("--protocol", choices=("classic", "consumer"), default="classic", help="of the group")
    usage.add_argument("--json", type=Path, help="write the report there, too")
    usage.add_argument("--folder", type=Path, help="for the broker's data and all logs (default: a new one, kept)")
    return usage


def main(arguments: list[str] | None = None) -> int:
    """Run, print and write the report; return 0 if nothing was lost, doubled, reordered or visible though aborted."""
    given = parser().parse_args(arguments)
    seed = int(time.time()) if given.seed is None else given.seed
    folder = given.folder or Path(tempfile.mkdtemp(prefix="penchant-torture-"))
    folder.mkdir(parents=True, exist_ok=True)
    print(f"seed {seed}; logs are kept in {folder}", flush=True)
    logging.getLogger("librdkafka").setLevel(logging.CRITICAL + 1)  # the broker goes away, as it is told to
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("terminated"))
    report, verdict = torture(folder, seed, given.minutes * 60, given.rate, given.protocol)
    text = json.dumps(report, indent=2)
    print(text)
    for kind, lines in asdict(verdict).items():
        for line in lines[:SHOWN]:
            print(f"{kind}: {line}")
    if given.json is not None:
        given.json.write_text(json.dumps({**report, "culprits": asdict(verdict)}, indent=2) + "\n")
    print("nothing is wrong" if verdict.good else f"FAILED; logs are in {folder}", flush=True)
    return 0 if verdict.good else 1


if __name__ == "__main__":
    sys.exit(main())
