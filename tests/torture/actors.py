"""Who suffers the faults: the broker and each instance, in the hands of a thread of its own."""

import json
import os
import signal
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from consumer.broker import BrokerError, EmbeddedBroker
from consumer.settings import Settings
from tests.broker.process import Serve
from tests.torture.faults import KILL, STOP, TWIN, Diary, Done, Fault, Killed

PATIENT_SECONDS = 30.0
END_SECONDS = 60.0
LATE_SECONDS = 30.0
"""A fault whose target is still down from the one before for so long is left out."""


class Instance:
    """`serve` with one ordinal, over all its lives; its log is FOLDER/serve.log."""

    def __init__(self, settings: Settings, bundle: Path, folder: Path, diary: Diary) -> None:
        self._settings, self._bundle, self.folder, self._diary = settings, bundle, folder, diary
        folder.mkdir(parents=True, exist_ok=True)
        self._log = folder / "serve.log"
        self._serve: Serve | None = None
        self._log_began = 0

    def start(self) -> Serve:
        """Start a new life, if there is none."""
        if self._serve is None:
            self._log_began = self._log.stat().st_size if self._log.exists() else 0
            self._serve = Serve(self._settings, self._bundle, self.folder)
        return self._serve

    def watch(self) -> None:
        """Start it again if it ended by itself, as whatever runs such processes would; noted."""
        if self._serve is not None and self._serve.process.poll() is not None:
            self._diary.ended.append(f"{self._words()} (status {self._serve.process.returncode})")
            self._serve = None
            self.start()

    def prepare(self, fault: Fault, sleep: Callable[[float], None]) -> None:
        """Wait for what the fault is to meet."""
        if fault.after is not None and not self._works():
            deadline = time.monotonic() + PATIENT_SECONDS
            while not self._works() and time.monotonic() < deadline:
                sleep(0.1)
                self.watch()
            sleep(fault.after)
            self.watch()

    def do(self, fault: Fault, sleep: Callable[[float], None]) -> None:
        """Do a fault, and undo it."""
        serve = self._serve
        assert serve is not None
        if fault.how == TWIN:
            self._double(serve, fault.lasts, sleep)
            return
        if fault.how == STOP:
            self._signal(signal.SIGSTOP)
            sleep(fault.lasts)
            self._signal(signal.SIGCONT)
            return
        if fault.how == KILL:
            owned = self._owned()
            killed = Killed(time.time() * 1000, time.monotonic(), owned)
            self._signal(signal.SIGKILL)
            serve.process.wait()
            if owned:
                self._diary.killed.append(killed)
            sleep(fault.lasts)
        else:
            self._signal(signal.SIGTERM)
            status = self.end(END_SECONDS)
            if status not in (0, -signal.SIGTERM):  # the latter: just started, it knew no signals yet
                self._diary.ended.append(f"{self._words()} (SIGTERM: status {status})")
            sleep(min(fault.lasts, 3.0))
        self._serve = None
        self.start()

    def _double(self, first: Serve, lasts: float, sleep: Callable[[float], None]) -> None:
        """Stop it, start a second one with its ordinal, let it go on: one of the two must end, either will do."""
        self._signal(signal.SIGSTOP)
        self._serve = None
        second = self.start()
        sleep(lasts)
        first.process.send_signal(signal.SIGCONT)
        deadline = time.monotonic() + END_SECONDS
        while first.process.poll() is None and second.process.poll() is None and time.monotonic() < deadline:
            sleep(0.1)
        if first.process.poll() is None and second.process.poll() is None:
            self._diary.ended.append(f"{self._words()} (two with one ordinal live on)")
            first.process.kill()
            first.process.wait()
        elif first.process.poll() is None:
            self._serve = first

    def end(self, seconds: float) -> int | None:
        """Wait for an end that was asked for, and return the status; by SIGKILL (None) after a while."""
        assert self._serve is not None
        process = self._serve.process
        deadline = time.monotonic() + seconds
        while process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
        if process.poll() is None:
            process.kill()
            process.wait()
            return None
        return process.returncode

    def finish(self) -> int | None:
        """End it by SIGTERM and return the status; None where it took SIGKILL."""
        self._signal(signal.SIGTERM)
        status = self.end(END_SECONDS)
        self._serve = None
        return status

    def _signal(self, number: signal.Signals) -> None:
        assert self._serve is not None
        if self._serve.process.poll() is None:
            self._serve.process.send_signal(number)

    def _words(self) -> str:
        lines = self._log.read_text(errors="replace").splitlines() or ["no word"]
        return f"ordinal {self._settings.ordinal}: {lines[-1][:600]}"

    def _owned(self) -> set[int]:
        """Return the partitions that this life restored and still has, by its log."""
        return self._partitions()[1]

    def _works(self) -> bool:
        """Say whether it has partitions, and all of them are restored."""
        given, owned = self._partitions()
        return bool(given) and given == owned

    def _partitions(self) -> tuple[set[int], set[int]]:
        """Return the partitions given to this life, and those of them that are restored, by its log."""
        given: set[int] = set()
        owned: set[int] = set()
        with self._log.open("rb") as log:
            log.seek(self._log_began)
            for line in log.read().decode(errors="replace").splitlines():
                try:
                    said = json.loads(line)
                except ValueError:  # cut off by a SIGKILL
                    continue
                if said.get("event") == "restored":
                    owned.add(said["partition"])
                elif said.get("event") in ("partitions taken", "partitions given"):
                    there = set(said["partitions"])
                    owned -= there
                    given = given | there if said["event"] == "partitions given" else given - there
        return given, owned


class Node:
    """The broker, over all its lives."""

    def __init__(self, folder: Path, port: int) -> None:
        self._folder, self._port = folder, port
        self._broker: EmbeddedBroker | None = None

    @property
    def bootstrap(self) -> str:
        """Its address, in all its lives."""
        return f"127.0.0.1:{self._port}"

    def start(self) -> None:
        """Start it; it ends with the thread that called this."""
        for attempt in range(5):
            try:
                self._broker = EmbeddedBroker.start(self._folder, self._port)
                break
            except BrokerError:
                if attempt == 4:
                    raise

    def watch(self) -> None:
        """Start it again if it ended by itself."""
        if self._broker is not None and not self._broker.is_running():
            self.start()

    def prepare(self, fault: Fault, sleep: Callable[[float], None]) -> None:
        """Wait for nothing."""

    def do(self, fault: Fault, sleep: Callable[[float], None]) -> None:
        """Do a fault, and undo it."""
        assert self._broker is not None
        if fault.how == STOP:
            os.kill(self._broker.pid, signal.SIGSTOP)
            sleep(fault.lasts)
            os.kill(self._broker.pid, signal.SIGCONT)
        else:
            self._broker.kill()
            sleep(fault.lasts)
            self.start()

    def finish(self) -> int:
        """Stop it."""
        if self._broker is not None:
            self._broker.stop()
        return 0


class Actor(threading.Thread):
    """Does one target's faults at their times; lives until released, as what it starts dies with it."""

    def __init__(self, target: Instance | Node, faults: Sequence[Fault], diary: Diary) -> None:
        super().__init__(name=f"faults of {type(target).__name__}", daemon=True)
        self.target, self._faults, self._diary = target, faults, diary
        self.status: int | None = None
        """Of the instance at its end."""
        self.up, self.go, self.done, self.release = (threading.Event() for _ in range(4))
        self.began = 0.0
        self.raised: BaseException | None = None

    def run(self) -> None:
        """Start the target, wait for `go`, do the faults, say `done`; finish it when released."""
        try:
            self.target.start()
            self.up.set()
            self.go.wait()
            for fault in self._faults:
                if self.release.is_set():
                    break
                while (left := self.began + fault.at - time.monotonic()) > 0:
                    self.target.watch()
                    time.sleep(min(0.1, left))
                if -left <= LATE_SECONDS:
                    self.target.watch()
                    self.target.prepare(fault, time.sleep)
                    began = time.monotonic()
                    self.target.do(fault, time.sleep)
                    self._diary.done.append(Done(fault, began, time.monotonic()))
            self.done.set()
            while not self.release.wait(0.1):
                self.target.watch()
            self.status = self.target.finish()
        except BaseException as error:
            self.raised = error
        finally:
            self.up.set()
            self.done.set()
