"""Ends a process whose loop no longer turns, after saying where it stands, so that another one gets its partitions.

Kafka's client has a heart of its own that beats on when Python stands still; without this, such an instance would keep
its partitions for ever and answer nothing.
"""

import faulthandler
import os
import sys
import threading
from collections.abc import Callable

import structlog

from consumer.http import STUCK_SECONDS, Health

log = structlog.get_logger("penchant.watchdog")
TICK_SECONDS = 1.0
STATUS = 70
"""EX_SOFTWARE of sysexits.h."""


def watch(health: Health, end: Callable[[int], None] = os._exit, seconds: float = STUCK_SECONDS) -> threading.Thread:
    """Start to watch, in a thread of its own; `end` is called with a status once the loop has not turned for so long.

    Counted in ticks, not by a clock: a process that is stopped and let go on has done nothing wrong.
    """

    def look() -> None:
        seen, ticks, pause = health.turned_at, 0, threading.Event()
        while not pause.wait(TICK_SECONDS):
            if health.turned_at != seen:
                seen, ticks = health.turned_at, 0
                continue
            ticks += 1
            if ticks * TICK_SECONDS >= seconds:
                log.error(f"the loop has not turned for {seconds:.0f} s; this is where it stands, and it ends")
                faulthandler.dump_traceback(sys.__stderr__ or 2, all_threads=True)
                end(STATUS)
                return

    thread = threading.Thread(target=look, name="watchdog", daemon=True)
    thread.start()
    return thread
