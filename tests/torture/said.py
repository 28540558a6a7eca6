"""What an instance says in its log: which partitions it was given, and when it had restored them."""

import json
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any


def lines(log: Path, start: int = 0) -> Iterator[dict[str, Any]]:
    """Yield the log's lines from a position on; what is no JSON (a traceback, cut off by a SIGKILL) is left out."""
    if not log.exists():
        return
    with log.open("rb") as file:
        file.seek(start)
        for line in file.read().decode(errors="replace").splitlines():
            try:
                said = json.loads(line)
            except ValueError:
                continue
            if isinstance(said, dict):
                yield said


def partitions(log: Path, start: int) -> tuple[set[int], set[int]]:
    """Return the partitions given to the life that began there, and those of them that are restored."""
    given: set[int] = set()
    owned: set[int] = set()
    for said in lines(log, start):
        if said.get("event") == "restored":
            owned.add(said["partition"])
        elif said.get("event") in ("partitions taken", "partitions given"):
            there = set(said["partitions"])
            owned -= there
            given = given | there if said["event"] == "partitions given" else given - there
    return given, owned


def taking(log: Path, wanted: frozenset[int], since_ms: float) -> tuple[float, list[float]] | None:
    """Return when the last of the wanted partitions was given after a moment, and each moment since (ms) at which one
    was restored, up to the last of them; None: they never were."""
    given: dict[int, float] = {}
    restored: list[float] = []
    missing = set(wanted)
    for said in lines(log):
        at_ms = _at_ms(said)
        if at_ms <= since_ms:
            continue
        if said.get("event") == "partitions given":
            given |= dict.fromkeys(wanted.intersection(said["partitions"]) - given.keys(), at_ms)
        elif said.get("event") == "restored" and given:
            restored.append(at_ms)
            missing.discard(said["partition"])
            if not missing:
                return max(given.values()), restored
    return None


def _at_ms(said: dict[str, Any]) -> float:
    try:
        return datetime.fromisoformat(str(said["timestamp"])).timestamp() * 1000
    except (KeyError, ValueError):
        return 0.0
