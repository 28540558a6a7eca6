"""The whole of Penchant on one machine: a real Kafka, real events, a BERT and the learner, each a process."""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.error import URLError

from rich.console import Console

from consumer import datasets, topics
from consumer.broker import EmbeddedBroker
from consumer.demo_process import free_port, get, last_line, must_live, peak_rss_mb, spawn, stop, terminable
from consumer.demo_report import Report
from consumer.demo_watch import WARM_UP, Watch, interests_moved
from consumer.shipped import shipped_bundle
from model.errors import Fatal, PenchantError

APP_ID = "penchant-demo"
SOURCE = "ml-100k"
READY_SECONDS = 120.0
QUIET_SECONDS = 15.0
"""No list for so long, while more are due: something is stuck."""
LATENCY_SHARE = 0.6
"""Of the events, kept for the second phase, which measures latency: by default about ten seconds."""
FEWEST = 10


@dataclass(frozen=True)
class Plan:
    """What to show."""

    events: int = 20_000
    bootstrap: str | None = None
    bundle: Path | None = None
    folder: Path | None = None


def run(plan: Plan, console: Console) -> Report:
    """Run the demo and return what was measured; whatever it started is gone when it returns or raises."""
    with ExitStack() as stack:
        stack.enter_context(terminable())
        folder = plan.folder or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="penchant-demo-")))
        folder.mkdir(parents=True, exist_ok=True)
        with _step(console, "MovieLens-100K (real ratings; 2 MB, downloaded once)"):
            items, events = datasets.load(SOURCE)
        count = min(plan.events, len(events))
        if count < FEWEST:
            raise PenchantError(f"--events must be at least {FEWEST}")
        bundle = plan.bundle or shipped_bundle(console)
        bootstrap = plan.bootstrap or _broker(stack, folder, console)
        # A run of its own on somebody's broker: nothing of an earlier demo is read, nothing of theirs is touched.
        app_id = f"{APP_ID}-{os.getpid()}-{int(time.time())}"
        names = {"events": f"{app_id}.events", "items": f"{app_id}.items"}
        with _step(console, "topics"):
            topics.create(topics.admin(bootstrap), topics.wanted(app_id, events=names["events"], items=names["items"]))
        with _step(console, f"catalogue: {len(items):,} films"):
            _replay(bootstrap, names, ["--only", "items"])
        port = free_port()
        with _step(console, "'penchant serve': load the encoder, embed the catalogue, join the group"):
            serve = _serve(stack, folder, app_id, names, bootstrap, bundle, port)
            _wait_ready(serve, port, folder)
        watch = stack.enter_context(Watch.open(bootstrap, app_id, names["events"]))
        calm = int(count * LATENCY_SHARE)
        first = count - calm
        with _step(console, f"{first:,} events, flat out"):
            _replay_watched(stack, watch, serve, folder, bootstrap, names, ["--events", str(first)], first)
        rate = watch.lists_per_second()
        with _step(console, f"{calm:,} events at half of that rate, for the latency (not counted: {WARM_UP})"):
            watch.start_phase()
            more = ["--skip", str(first), "--events", str(calm), "--rate", str(max(1.0, rate / 2))]
            _replay_watched(stack, watch, serve, folder, bootstrap, names, more, count)
        metrics = get(port, "/metrics").decode()
        rss_mb = peak_rss_mb(serve.pid)
        with _step(console, "'penchant serve': commit and leave"):
            stop(serve)
        moved = interests_moved(bootstrap, f"{app_id}.interests", watch)
        titles = {item.item: item.title for item in items}
        return Report.of(count, watch, rate, metrics, rss_mb, moved, titles)


def _broker(stack: ExitStack, folder: Path, console: Console) -> str:
    with _step(console, "Apache Kafka, one node, for development only (45 MB, downloaded once)"):
        return stack.enter_context(EmbeddedBroker.start(folder / "kafka")).bootstrap


def _serve(
    stack: ExitStack, folder: Path, app_id: str, names: dict[str, str], bootstrap: str, bundle: Path, port: int
) -> "subprocess.Popen[bytes]":
    settings = {
        "app_id": app_id,
        "bootstrap": bootstrap,
        "bundle": str(bundle.absolute()),
        "events_topic": names["events"],
        "items_topic": names["items"],
        "http_port": str(port),
        "start": "earliest",
    }
    environment = os.environ | {f"PENCHANT_{name.upper()}": value for name, value in settings.items()}
    return spawn(stack, ["serve"], folder / "serve.log", environment)


def _replay_arguments(bootstrap: str, names: dict[str, str], more: list[str]) -> list[str]:
    where = ["--bootstrap", bootstrap, "--events-topic", names["events"], "--items-topic", names["items"]]
    return ["replay", SOURCE, *where, *more]


def _replay(bootstrap: str, names: dict[str, str], more: list[str]) -> None:
    command = [sys.executable, "-m", "consumer.cli", *_replay_arguments(bootstrap, names, more)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Fatal(f"the replay failed: {(done.stderr.strip().splitlines() or ['no message'])[-1]}")


def _replay_watched(
    stack: ExitStack,
    watch: Watch,
    serve: "subprocess.Popen[bytes]",
    folder: Path,
    bootstrap: str,
    names: dict[str, str],
    more: list[str],
    due: int,
) -> None:
    """Replay in a process of its own and watch until `due` events in all were answered or dead-lettered."""
    log = folder / "replay.log"
    replay = spawn(stack, _replay_arguments(bootstrap, names, [*more, "--only", "events"]), log)
    last = time.monotonic()
    while watch.answered < due:
        if watch.poll():
            last = time.monotonic()
        must_live(serve, folder)
        if replay.poll() not in (None, 0):
            raise Fatal(f"the replay failed: {last_line(log)}")
        if time.monotonic() - last > QUIET_SECONDS:
            raise Fatal(
                f"{watch.answered} of {due} events were answered, then nothing for {QUIET_SECONDS:.0f} s: "
                f"{last_line(folder / 'serve.log')}"
            )
    stop(replay)


def _wait_ready(serve: "subprocess.Popen[bytes]", port: int, folder: Path) -> None:
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline:
        must_live(serve, folder)
        try:
            get(port, "/readyz")
            return
        except (URLError, OSError):
            time.sleep(0.1)
    raise Fatal(f"'penchant serve' was not ready within {READY_SECONDS:.0f} s: {last_line(folder / 'serve.log')}")


@contextmanager
def _step(console: Console, what: str) -> Iterator[None]:
    """Say what is being done now, and how long it took."""
    console.print(f"[bold]*[/] {what} ...", highlight=False)
    start = time.monotonic()
    yield
    console.print(f"  [dim]{time.monotonic() - start:.1f} s[/]", highlight=False)
