"""Real events at a steady rate until SIGTERM, without end: laps of the same ratings, each by users of its own."""

import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from itertools import count
from typing import cast

import msgspec

from consumer.datasets import load
from consumer.replay import send_events
from model.events import Event


def nth(events: Sequence[Event], number: int) -> Event:
    """Return an event of the stream: beyond the last one others do the same again, and time goes on."""
    lap, place = divmod(number, len(events))
    event, span = events[place], events[-1].at_ms - events[0].at_ms + 1
    return msgspec.structs.replace(
        event, id=f"{event.id}@{lap}", user=f"{event.user}@{lap}", at_ms=event.at_ms + lap * span
    )


def stream(events: Sequence[Event], skip: int, stopped: Callable[[], object]) -> Iterator[Event]:
    """Yield the events from number `skip` on, until told to stop."""
    for number in count(skip):
        if stopped():
            return
        yield nth(events, number)


def main(bootstrap: str, topic: str, rate: str, skip: str) -> None:
    """Send; what was sent is in the topic, flushed, when this returns."""
    told: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: told.append(number))
    _, events = load("ml-100k")
    # Nobody asks for the progress, so nobody asks for the length that this has not.
    endless = cast(Sequence[Event], stream(events, int(skip), lambda: told))
    send_events(bootstrap, topic, endless, rate=float(rate))


if __name__ == "__main__":
    main(*sys.argv[1:])
