"""Who does the faults: a thread for the broker and for each instance, act by act."""

import math
import threading
import time
from collections.abc import Sequence
from itertools import groupby

from tests.torture.faults import Diary, Done, Fault
from tests.torture.instance import Instance
from tests.torture.node import Node

LATE_SECONDS = 10.0
"""A fault whose target is still down from the one before for so long is left out."""
TICK_SECONDS = 0.1


class Acts:
    """Keeps the acts apart: none begins before everybody has done with the one before, nor after the time is up."""

    def __init__(self, actors: int) -> None:
        self._actors, self._lock = actors, threading.Lock()
        self._ready: dict[int, int] = {}
        self._began: dict[int, float] = {}
        self.until = math.inf
        """No act begins after this (monotonic clock)."""

    def ready(self, act: int) -> None:
        """Say that one more actor has done with what was before."""
        with self._lock:
            self._ready[act] = self._ready.get(act, 0) + 1
            if self._ready[act] == self._actors:
                now = time.monotonic()
                self._began[act] = now if now < self.until else math.inf

    def began(self, act: int) -> float | None:
        """Return when an act began; None: not yet; infinity: it never will."""
        return self._began.get(act)


class Actor(threading.Thread):
    """Does one target's faults at their times; lives until released, as what it starts dies with it."""

    def __init__(self, target: Instance | Node, faults: Sequence[Fault], acts: Acts, diary: Diary) -> None:
        super().__init__(name=f"faults of {type(target).__name__}", daemon=True)
        self.target, self._acts, self._diary = target, acts, diary
        self._faults = {act: list(those) for act, those in groupby(faults, lambda one: one.act)}
        self.status: int | None = None
        """Of the instance at its end."""
        self.up, self.go, self.done, self.release = (threading.Event() for _ in range(4))
        self.raised: BaseException | None = None

    def run(self) -> None:
        """Start the target, wait for `go`, do the faults, say `done`; finish it when released."""
        try:
            self.target.start()
            self.up.set()
            while not self.go.wait(TICK_SECONDS):
                self.target.watch()
            act = 0
            while (began := self._begin(act)) < math.inf:
                for fault in self._faults.get(act, ()):
                    self._do(fault, began)
                act += 1
            self.done.set()
            while not self.release.wait(TICK_SECONDS):
                self.target.watch()
            self.status = self.target.finish()
        except BaseException as error:
            self.raised = error
        finally:
            self.up.set()
            self.done.set()

    def _begin(self, act: int) -> float:
        self._acts.ready(act)
        while (began := self._acts.began(act)) is None:
            if self.release.is_set():
                return math.inf
            self.target.watch()
            time.sleep(TICK_SECONDS)
        return began

    def _do(self, fault: Fault, act_began: float) -> None:
        while (left := act_began + fault.at - time.monotonic()) > 0:
            self.target.watch()
            time.sleep(min(TICK_SECONDS, left))
        if -left > LATE_SECONDS or self.release.is_set():
            return
        self.target.watch()
        if self.target.prepare(fault):
            began = time.monotonic()
            caught = self.target.do(fault)
            self._diary.note(Done(fault, began, time.monotonic(), caught))
