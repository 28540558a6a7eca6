"""Asking for a tuning: what each commit shows of drift is counted, and becomes a record in the next transaction."""

import structlog

from consumer.batch import Work
from consumer.drift import Drift
from consumer.metrics import Metrics
from consumer.settings import Settings
from consumer.transaction import Produce
from model.events import TuneRequest, encode

log = structlog.get_logger("penchant.drift")


class TuneRequests:
    """An observer of commits: nothing that is ranked, learnt or restored depends on it, and a restart begins anew."""

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        self._settings, self._metrics = settings, metrics
        self._drift = Drift(settings.drift_evaluations) if settings.drift_evaluations else None
        self._due: TuneRequest | None = None
        self._last_ms: int | None = None

    def records(self) -> list[Produce]:
        """Return what is to go into the next transaction."""
        if self._due is None:
            return []
        return [(self._settings.tune_requests_topic, self._settings.app_id.encode(), encode(self._due), -1)]

    def lost(self) -> None:
        """Forget what went into a transaction of which nobody knows whether it was committed: never ask twice."""
        self._due = None

    def committed(self, work: Work, model: str, at_ms: int) -> None:
        """Note that `records` were committed along with `work`, and look at that.

        `model` is the version that ranked, `at_ms` the time of the newest event.
        """
        settings, metrics = self._settings, self._metrics
        if self._drift is None:
            return
        if self._due is not None:
            self._due = None
            metrics.tune_requests.inc()
        found = self._drift.observe(work.evaluations, work.interests, model)
        metrics.drifts(self._drift.means(), found)
        for one in found:
            log.warning(
                "drift", signal=one.signal, detector=one.detector, before=one.before, after=one.after, n=one.n,
                model=model, at_ms=at_ms,
            )  # fmt: skip
            cooled = self._last_ms is None or at_ms - self._last_ms >= 1000 * settings.tune_cooldown_seconds
            # What is folded in silence is the past: nobody waits for its lists, nor for a tuning.
            if settings.tune_requests and cooled and self._due is None and not work.muted:
                self._last_ms = at_ms
                name = f"{settings.app_id}-{settings.ordinal}-{at_ms}-{one.signal}"
                self._due = TuneRequest(name, at_ms, one.signal, one.detector, one.before, one.after, one.n, model)
