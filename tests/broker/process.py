"""`serve` as a process of its own, asked and watched from outside."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self
from urllib.error import HTTPError
from urllib.request import urlopen

from consumer.broker import dying_with_parent
from consumer.demo_process import free_port
from consumer.settings import Settings

SECONDS = 60.0


def wait_for(condition: Callable[[], object], what: str, seconds: float = SECONDS) -> None:
    """Wait until the condition holds; fail with `what` otherwise."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


class Serve:
    """A running `python -m consumer.serve`; as a context manager it is killed at the end of the block."""

    def __init__(self, settings: Settings, bundle: Path, folder: Path) -> None:
        told = {name: getattr(settings, name) for name in settings.model_fields_set} | {"bundle": bundle}
        self.port, self._log = int(told.setdefault("http_port", free_port())), folder / "serve.log"
        environment = os.environ | {f"PENCHANT_{name.upper()}": str(value) for name, value in told.items()}
        with self._log.open("ab") as out:
            self.process = subprocess.Popen(
                dying_with_parent([sys.executable, "-m", "consumer.serve"]),
                stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT, env=environment,
            )  # fmt: skip

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()

    def get(self, path: str) -> tuple[int, str]:
        """Return status and text of a page; status 0 where nobody listens yet."""
        try:
            with urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=5) as answer:
                return answer.status, answer.read().decode()
        except HTTPError as error:
            with error:
                return error.code, error.read().decode()
        except OSError:
            assert self.process.poll() is None, self.text()
            return 0, ""

    def value(self, name: str) -> float:
        """Return the sum of a metric's series."""
        lines = [line.rsplit(" ", 1) for line in self.get("/metrics")[1].splitlines() if not line.startswith("#")]
        return sum(float(value) for series, value in lines if series.partition("{")[0] == name)

    def turns(self, count: int = 3) -> None:
        """Wait until the loop turned so many times: what it says once a turn, it has then said so often."""
        seen: set[float] = set()

        def turned() -> bool:
            seen.add(self.value("penchant_loop_heartbeat_timestamp_seconds"))
            return len(seen) > count

        wait_for(turned, "it hangs")

    def is_ready(self) -> bool:
        return self.get("/readyz")[0] == 200

    def text(self) -> str:
        return self._log.read_text(encoding="utf-8", errors="replace")

    def said(self, *levels: str) -> list[str]:
        """Return the events of the log's lines of these levels; every line must be JSON."""
        lines: list[dict[str, Any]] = [json.loads(line) for line in self.text().splitlines()]
        return [str(line["event"]) for line in lines if line["level"] in levels]

    def end(self) -> int:
        """Send SIGTERM and return the exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(SECONDS)
