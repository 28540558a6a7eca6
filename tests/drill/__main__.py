"""`make swap-drill`: models go live under load, good ones and bad ones; does anything stop, or get lost?

A Kafka of its own, one `penchant serve` that follows a registry, real ratings at half of what it can do. Then good
models are promoted in turn, bad ones of every kind between them; new items come, and are searched for. At the end every
event's list is looked for.
"""

import argparse
import json
import shutil
import signal
import sys
import tempfile
from pathlib import Path

from tests.drill.bundles import GOOD
from tests.drill.run import Options, drill

SHOWN = 40


def parser() -> argparse.ArgumentParser:
    """Return the command line."""
    usage = argparse.ArgumentParser(
        prog="python -m tests.drill", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    usage.add_argument("--swaps", type=int, default=50, help="good models promoted (default %(default)s)")
    usage.add_argument("--every", type=float, default=4.0, help="seconds at least between two (default %(default)s)")
    usage.add_argument("--rate", type=float, help="events a second (default: half of the most, measured before)")
    usage.add_argument("--calm", type=float, default=20.0, help="seconds before and after (default %(default)s)")
    usage.add_argument("--events", type=int, default=10_000, help="measured flat out (default %(default)s)")
    usage.add_argument("--partitions", type=int, default=2, help="of the events (default %(default)s)")
    usage.add_argument("--models", type=_models, default=GOOD, help=f"two or more of {','.join(GOOD)} (default: all)")
    usage.add_argument("--no-bad", action="store_true", help="promote no bad models")
    usage.add_argument("--json", type=Path, help="write the report there, too")
    usage.add_argument(
        "--folder", type=Path, help="for bundles, the broker's data and all logs; kept (default: only of a failure)"
    )
    return usage


def main(arguments: list[str] | None = None) -> int:
    """Run, print and write the report; return 0 if every model and every event fared as it should."""
    given = parser().parse_args(arguments)
    options = Options(
        given.swaps, given.every, given.rate, given.calm, given.events, given.partitions, given.models, not given.no_bad
    )
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("terminated"))
    folder = given.folder or Path(tempfile.mkdtemp(prefix="penchant-drill-"))
    folder.mkdir(parents=True, exist_ok=True)
    print(f"bundles, the broker's data and all logs are in {folder}", flush=True)
    report, wrong = drill(folder, options)
    if given.folder is None and not wrong:
        shutil.rmtree(folder)
    print(json.dumps({name: value for name, value in report.items() if name != "usage_by_swap"}, indent=2))
    for line in wrong[:SHOWN]:
        print(line)
    if given.json is not None:
        given.json.parent.mkdir(parents=True, exist_ok=True)
        given.json.write_text(json.dumps({**report, "wrong": wrong}, indent=2) + "\n")
    print(f"FAILED: {len(wrong)} things are wrong" if wrong else "nothing is wrong", flush=True)
    return 1 if wrong else 0


def _models(text: str) -> tuple[str, ...]:
    chosen = tuple(text.split(","))
    if not set(chosen) <= set(GOOD) or len(set(chosen)) < 2:
        raise argparse.ArgumentTypeError(f"choose two or more of {','.join(GOOD)}")
    return chosen


if __name__ == "__main__":
    sys.exit(main())
