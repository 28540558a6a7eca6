"""Follows the registry: what becomes current is fetched, verified, loaded, made ready, and offered to the loop."""

import ctypes
import os
import re
import shutil
import sys
import threading
import time
from contextlib import suppress
from operator import itemgetter
from pathlib import Path

import structlog

from consumer.datasets import cache_folder
from consumer.embedding import Model
from consumer.failed import Failed
from consumer.http import Health
from consumer.metrics import Metrics
from consumer.serving import Serving
from consumer.settings import Settings
from export.registry import Registry
from model.errors import BadBundle, DependencyAway, PenchantError

log = structlog.get_logger("penchant.follower")
AWAY = "the registry is away"


class Follower:
    """A thread beside the loop. What cannot serve is refused, counted and not tried again; the old model stays."""

    def __init__(
        self,
        settings: Settings,
        registry: Registry,
        serving: Serving,
        metrics: Metrics,
        failed: Failed,
    ) -> None:
        self._settings, self._registry, self._serving, self._metrics = settings, registry, serving, metrics
        self._failed = failed
        self._newest = serving.model.version
        """What serves now or will after the loop's next turn."""
        self._apprentice: Model | None = None
        self._apprentice_refused = False
        self._seen = 0
        """Number of the newest pointer that was dealt with."""
        self._cache = cache(settings)
        self._away = False
        self._loaded = False
        """Whether a model was loaded since the last look."""
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="follower", daemon=True)

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def close(self) -> None:
        """Look no more."""
        self._stop.set()

    def look(self) -> None:
        """Deal with what is current now; raises nothing but what is a mistake of ours."""
        try:
            pointer = self._registry.current()
        except (PenchantError, OSError) as error:
            if not self._away:
                log.warning("the registry is away; the model that serves stays", why=str(error))
            self._away = True
            return
        if self._loaded:  # the loop has let go of what served before
            self._loaded = False
            _return_memory()
        if self._away:
            log.info("the registry is back")
        self._away = False
        self._teach()
        if pointer is None and self._seen:
            log.warning("no version is current any more; the model that serves stays", registry=self._registry.url)
            self._seen = 0  # a registry that is made anew counts from 1
        if pointer is None or pointer.number <= self._seen:
            return
        if self._newest in self._failed.fallen:  # the loop went back to the one before
            self._newest = self._serving.model.version
        if pointer.version != self._newest and (why := self._failed.why(pointer.version, pointer.number)):
            log.warning("model not tried; the one that serves stays", model=pointer.version, why=why)
        elif pointer.version != self._newest:
            stage = "files"
            try:
                bundle = self._registry.fetch(pointer.version, self._cache)
                stage = "self_test"
                model = Model.load(bundle, self._settings)
                stage, self._failed.pointer = "catalogue", pointer.number
                self._serving.prepare(model, self._progress)
            except BadBundle as error:
                self._metrics.refused.labels(stage).inc()
                log.error("model refused; the one that serves stays", model=pointer.version, why=str(error))
            except (PenchantError, OSError) as error:  # its store is away, a disk is full: another time
                log.warning("model not loaded; trying again", model=pointer.version, why=str(error))
                return
            else:
                _tidy(self._cache, {self._newest, pointer.version, self._settings.apprentice or ""})
                self._newest, self._loaded = pointer.version, True
        self._seen = pointer.number

    def _teach(self) -> None:
        """Have the apprentice rank in every partition that is served; it is loaded once."""
        version = self._settings.apprentice
        if version is None or self._apprentice_refused:
            return
        try:
            if self._apprentice is None:
                self._apprentice = Model.load(self._registry.fetch(version, self._cache), self._settings)
            self._serving.teach(self._apprentice, self._progress)
        except BadBundle as error:
            self._apprentice_refused = True
            self._metrics.refused.labels("apprentice").inc()
            log.error("apprentice refused", model=version, why=str(error))
        except (PenchantError, OSError) as error:
            log.warning("apprentice not loaded; trying again", model=version, why=str(error))

    def _progress(self, done: int, of: int) -> None:
        self._metrics.prepare_remaining.set(of - done)

    def _run(self) -> None:
        if sys.platform == "linux":  # there a thread has a niceness of its own: events go first
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 10)
        while not self._stop.wait(self._settings.follow_seconds):
            try:
                self.look()
            except Exception as error:  # this thread must not die in silence: nothing would be followed any more
                self._metrics.refused.labels("unforeseen").inc()
                log.error("the registry could not be followed; trying again", why=f"{type(error).__name__}: {error}")


def begin(registry: Registry, settings: Settings, metrics: Metrics, health: Health, failed: Failed) -> Model:
    """Return the model to begin with: the current one, or, where that cannot serve, the newest before it that can.

    Waits for a registry that is away, alive and not ready.

    Raises:
        BadBundle: none can serve, or none was ever promoted.
    """
    while True:
        metrics.heartbeat.set(time.time())
        try:
            # By version the newest pointer, the newest first.
            pointers = {pointer.version: pointer.number for pointer in registry.history()}
            refused: BadBundle | None = None
            for version, number in sorted(pointers.items(), key=itemgetter(1), reverse=True):
                try:
                    if why := failed.why(version, number):
                        raise BadBundle(why)
                    return Model.load(registry.fetch(version, cache(settings)), settings)
                except BadBundle as error:
                    refused = refused or error
                    metrics.refused.labels("start").inc()
                    log.error("model refused; trying the one before", model=version, why=str(error))
            raise refused or BadBundle(f"{registry.url} has no current model: penchant models publish, then promote")
        except DependencyAway as away:
            if health.reason != AWAY:
                log.warning("the registry is away; waiting", why=str(away))
            health.say(False, AWAY)
            time.sleep(settings.follow_seconds)


def cache(settings: Settings) -> Path:
    """Return the folder for what this machine keeps of a registry."""
    return cache_folder() / "models" / settings.app_id


def _return_memory() -> None:
    """Give back to the system what a model took: glibc keeps it, a fifth of the process after some swaps."""
    with suppress(OSError, AttributeError):  # another C library
        ctypes.CDLL(None).malloc_trim(0)


def _tidy(cache: Path, kept: set[str]) -> None:
    """Remove downloaded versions that neither serve nor did before."""
    for folder in cache.iterdir() if cache.is_dir() else ():
        if re.fullmatch(r"[0-9a-f]{12}", folder.name) and folder.name not in kept:
            shutil.rmtree(folder, ignore_errors=True)
