"""`penchant serve`: the process around the loop: logs, signals, the little web server, the encoder."""

import logging
import os
import signal
import sys
from contextlib import ExitStack, suppress
from importlib.metadata import version
from types import FrameType
from typing import TextIO, cast

import structlog

from consumer import collector, watchdog
from consumer.embedding import Model
from consumer.failed import Failed
from consumer.follower import Follower, begin, cache
from consumer.http import Health, Server
from consumer.loop import Loop
from consumer.metrics import Metrics
from consumer.settings import Settings
from consumer.warm import compile_kernels
from export.bundle import Bundle
from export.registry import Registry
from model.errors import Fatal, PenchantError
from model.fold import Fold, FoldSettings

log = structlog.get_logger("penchant")


def run(settings: Settings) -> int:
    """Serve until SIGTERM or SIGINT, which finish the batch and commit; return the exit status."""
    set_up_logs()
    # Until there is a loop that can finish, there is nothing to finish. Not the default: to a container's first process
    # SIGTERM does nothing by default.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit(0))
    metrics, health = Metrics(), Health()
    metrics.build.info({"version": version("penchant")})
    try:
        with ExitStack() as around:
            server = around.enter_context(_listening(settings, metrics, health))  # first: what comes now may take long
            registry = None if settings.registry is None else Registry.open(settings.registry)
            failed = Failed(cache(settings))
            if registry is None:
                model = Model.load(Bundle.open(settings.bundle), settings)
            else:
                model = begin(registry, settings, metrics, health, failed)
            health.say(False, "starting")
            metrics.serves(model.encoder)
            folding = fold_settings(settings)
            compile_kernels(folding, model)

            def new_fold(model: Model) -> Fold:
                return Fold(folding, model.encoder, model.taxonomy, model.sentiment)

            loop = Loop(settings, model, new_fold, metrics, health, failed.note)
            del model  # once another one serves, nobody else must hold it

            def finish(signum: int, _frame: FrameType | None) -> None:
                log.info("finishing", signal=signal.Signals(signum).name)
                loop.stop.set()

            signal.signal(signal.SIGTERM, finish)
            signal.signal(signal.SIGINT, finish)
            collector.spare_the_old()
            watchdog.watch(health)
            if registry is not None:
                follower = Follower(settings, registry, loop.serving, metrics, failed)
                follower.start()
                around.callback(follower.close)
            log.info("serving", app_id=settings.app_id, model=loop.serving.model.version, http=server.port)
            try:
                loop.run()
            finally:
                loop.close()
    except PenchantError as error:
        log.error(str(error))
        return 1
    log.info("stopped")
    return 0


def _listening(settings: Settings, metrics: Metrics, health: Health) -> Server:
    try:
        return Server(settings.http_host, settings.http_port, metrics.registry, health)
    except OSError as error:
        raise Fatal(
            f"cannot listen on {settings.http_host}:{settings.http_port} ({error.strerror}); set PENCHANT_HTTP_PORT"
        ) from None


def fold_settings(settings: Settings) -> FoldSettings:
    """Return the part of the settings that the outcome depends on."""
    return FoldSettings(
        length=settings.length, reasons=settings.reasons, seed=settings.seed, mmr=settings.mmr,
        interests_every=settings.interests_every, modalities=settings.modalities, ttl_days=settings.ttl_days,
    )  # fmt: skip


class _Stderr:
    """Standard error, whose disk may be full or whose reader gone: what it does not take is lost, and only that."""

    def write(self, text: str) -> None:
        with suppress(OSError):
            os.write(2, text.encode(errors="replace"))

    def flush(self) -> None:
        """Nothing is held back."""


def set_up_logs() -> None:
    """Log to stderr: for people on a terminal, as JSON otherwise; librdkafka's lines come the same way."""
    people = sys.stderr.isatty()
    shared: list[structlog.typing.Processor] = [
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    last: structlog.typing.Processor = (
        structlog.processors.KeyValueRenderer(key_order=["timestamp", "level", "event"])
        if people
        else structlog.processors.JSONRenderer()
    )
    structlog.configure(
        processors=[*shared, last], logger_factory=structlog.PrintLoggerFactory(cast(TextIO, _Stderr()))
    )
    handler = logging.StreamHandler(_Stderr())
    remove = structlog.stdlib.ProcessorFormatter.remove_processors_meta
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(foreign_pre_chain=shared, processors=[remove, last]))
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
    logging.getLogger("librdkafka").setLevel(logging.CRITICAL + 1)  # the loop says what matters of it, once


if __name__ == "__main__":
    from pathlib import Path

    from consumer.settings import load

    try:
        sys.exit(run(load(Path(sys.argv[2]) if sys.argv[1:2] == ["--config"] else None)))
    except PenchantError as error:
        sys.exit(f"penchant: {error}")
