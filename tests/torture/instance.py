"""An instance of `serve` that suffers faults, over all its lives."""

import random
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

from consumer.settings import Settings
from tests.broker.process import Serve
from tests.torture import said
from tests.torture.faults import AWAY, KILL, STOP, TWIN, Diary, Fault, Killed
from tests.torture.opened import Opened

PATIENT_SECONDS = 30.0
END_SECONDS = 60.0
CATCH_SECONDS = 4.0
"""For so long a transaction is looked for that is open."""
SURE_SECONDS = 0.03
"""A transaction that is still open after so long was not about to be ended."""


class Instance:
    """`serve` with one ordinal; its log is FOLDER/serve.log."""

    def __init__(self, settings: Settings, bundle: Path, folder: Path, diary: Diary, opened: Opened) -> None:
        self.settings, self._bundle, self.folder = settings, bundle, folder
        self._diary, self._opened = diary, opened
        folder.mkdir(parents=True, exist_ok=True)
        self.log = folder / "serve.log"
        self.lock = threading.Lock()
        """Held by whoever does something to it."""
        self.quiet: Callable[[], bool] = lambda: True
        """Whether all instances are ready and nothing is going on."""
        self._serve: Serve | None = None
        self._log_began = 0

    def start(self) -> Serve:
        """Start a new life, if there is none."""
        if self._serve is None:
            self._log_began = self.log.stat().st_size if self.log.exists() else 0
            self._serve = Serve(self.settings, self._bundle, self.folder)
        return self._serve

    def watch(self) -> None:
        """Start it again if it ended by itself, as whatever runs such processes would; noted."""
        if self._serve is not None and self._serve.process.poll() is not None:
            self._diary.ended.append(f"{self._words()} (status {self._serve.process.returncode})")
            self._serve = None
            self.start()

    def prepare(self, fault: Fault) -> bool:
        """Wait for what the fault is to meet; say whether it is to be done."""
        if fault.how == AWAY:
            if self._wait(self.quiet, 2 * PATIENT_SECONDS):
                return True
            self._diary.unquiet += 1
            return False
        if fault.after is not None and not self.works():
            self._wait(self.works, PATIENT_SECONDS)
            time.sleep(fault.after)
            self.watch()
        return True

    def _wait(self, condition: Callable[[], bool], seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        while not (there := condition()) and time.monotonic() < deadline:
            time.sleep(0.2)
            self.watch()
        return there

    def do(self, fault: Fault) -> bool:
        """Do a fault, and undo it; say whether a transaction was open at that moment."""
        with self.lock:
            serve = self.start()
            caught = fault.within and self.catch()
            if fault.how == TWIN:
                self._double(serve, fault.lasts)
            elif fault.how == STOP:
                self.signal(signal.SIGSTOP)
                time.sleep(fault.lasts)
                self.signal(signal.SIGCONT)
            else:
                if fault.how in (KILL, AWAY):
                    caught = self._kill(serve, fault)
                else:
                    self._terminate(fault)
                self._serve = None
                self.start()
        return caught

    def catch(self) -> bool:
        """Stop it within a transaction that it has written to, and return True; if there is none for long, go on."""
        deadline = time.monotonic() + CATCH_SECONDS
        while time.monotonic() < deadline:
            self.signal(signal.SIGSTOP)
            owned = self.owned()
            if self._opened.written(owned):
                time.sleep(SURE_SECONDS)
                if self._opened.written(owned):
                    return True
            self.signal(signal.SIGCONT)
            time.sleep(random.uniform(0.01, 0.1))  # so that it does something meanwhile
        return False

    def _kill(self, serve: Serve, fault: Fault) -> bool:
        """Kill it, and return whether it left a transaction open, by aim or by chance."""
        owned, wall_ms, at = self.owned(), time.time() * 1000, time.monotonic()
        self.signal(signal.SIGKILL)
        serve.process.wait()
        time.sleep(SURE_SECONDS)
        caught = self._opened.left(owned)
        if owned:
            self._diary.killed.append(
                Killed(self.settings.ordinal, wall_ms, at, frozenset(owned), caught, fault.how == AWAY)
            )
        time.sleep(max(0.0, at + fault.lasts - time.monotonic()))
        return caught

    def _terminate(self, fault: Fault) -> None:
        self.signal(signal.SIGTERM)
        status = self.end(END_SECONDS)
        if status not in (0, -signal.SIGTERM):  # the latter: just started, it knew no signals yet
            self._diary.ended.append(f"{self._words()} (SIGTERM: status {status})")
        time.sleep(min(fault.lasts, 3.0))

    def _double(self, first: Serve, lasts: float) -> None:
        """Stop it, start a second one with its ordinal, let it go on: one of the two must end, either will do."""
        self.signal(signal.SIGSTOP)
        self._serve = None
        second = self.start()
        time.sleep(lasts)
        first.process.send_signal(signal.SIGCONT)
        deadline = time.monotonic() + END_SECONDS
        while first.process.poll() is None and second.process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.1)
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
        self.signal(signal.SIGTERM)
        status = self.end(END_SECONDS)
        self._serve = None
        return status

    def signal(self, number: signal.Signals) -> None:
        """Send a signal, if it lives."""
        if self._serve is not None and self._serve.process.poll() is None:
            self._serve.process.send_signal(number)

    def works(self) -> bool:
        """Say whether it has partitions, and all of them are restored."""
        given, owned = said.partitions(self.log, self._log_began)
        return bool(given) and given == owned

    def owned(self) -> set[int]:
        """Return the partitions that this life has restored and still has, by its log."""
        return said.partitions(self.log, self._log_began)[1]

    def _words(self) -> str:
        lines = self.log.read_text(errors="replace").splitlines() or ["no word"]
        return f"ordinal {self.settings.ordinal}: {lines[-1][:600]}"
