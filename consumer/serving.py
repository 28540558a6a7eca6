"""The model that serves, the one that is ready to take its place, and those that only rank beside it."""

import time
from collections.abc import Callable, Mapping, Sequence

import msgspec
import structlog

from consumer.batch import Texts, Work
from consumer.embedding import Model
from consumer.items import Items
from consumer.metrics import Metrics
from consumer.settings import Settings
from consumer.state import PartitionState
from consumer.swap import Prepared, Progress, adopt, compare, prepare
from model.fold import Fold

log = structlog.get_logger("penchant.serving")
OnFailure = Callable[[str, str], None]
"""Told the version of a model that failed while it served, and why."""
BEFORE, APPRENTICE = "before", "apprentice"
"""Roles of models that rank and do not serve."""


class Serving:
    """One model serves at a time; it changes only in `turn`, between two events."""

    def __init__(
        self,
        settings: Settings,
        model: Model,
        items: Items,
        states: Mapping[int, PartitionState],
        metrics: Metrics,
        beat: Callable[[], None],
        on_failure: OnFailure,
    ) -> None:
        self._settings, self._items, self._states, self._metrics, self._beat = settings, items, states, metrics, beat
        self._on_failure = on_failure
        self.model = model
        self.texts = self._texts_of(model)
        self._failed: set[str] = set()
        """Roles of models that failed while they ranked."""
        self._prepared: Prepared | None = None
        self._apprentice: Prepared | None = None
        self._before: Model | None = None
        """While the one that serves is on probation."""
        self._on_probation = 0
        """Events that the model before is still to rank."""

    # -- for another thread

    def prepare(self, model: Model, progress: Progress) -> None:
        """Get a model ready; the next turn takes it over. Raises `BadBundle`."""
        self._prepared = self._prepare(model, self._folds(), progress)

    def teach(self, apprentice: Model, progress: Progress) -> None:
        """Let a model rank beside the one that serves, where it does not yet, unless it failed. Raises `BadBundle`.

        One that serves by now has nothing to be compared with.
        """
        folds = [fold for fold in self._folds() if APPRENTICE not in fold.rivals]
        if folds and APPRENTICE not in self._failed and apprentice.version != self.model.version:
            self._apprentice = self._prepare(apprentice, folds, progress)

    def _prepare(self, model: Model, folds: Sequence[Fold], progress: Progress) -> Prepared:
        changes = self._items.changes
        return prepare(model, self._items.known(), changes, folds, progress)

    # -- for the loop

    def turn(self) -> None:
        """Take over what is ready, if there is anything."""
        if (apprentice := self._apprentice) is not None:
            self._apprentice = None
            words, share = self._texts_of(apprentice.model), self._settings.probation_share
            compare(apprentice, APPRENTICE, words, share, self._items.changed(apprentice.changes), lists=True)
            log.info("an apprentice ranks beside", model=apprentice.model.version, share=share)
            self._release_apprentice()
        if (prepared := self._prepared) is not None:
            self._prepared = None
            self._swap(prepared)

    def _swap(self, prepared: Prepared, probation: bool = True) -> None:
        settings, model, folds = self._settings, prepared.model, self._folds()
        began, self._before = time.perf_counter(), None
        before = Prepared(self.model, {}, {}, [(fold, fold.catalogue.content) for fold in folds])
        known = adopt(prepared, folds, self._items.changed(prepared.changes))
        for fold in folds:
            fold.rivals.pop(BEFORE, None)
        if probation and settings.probation_share and settings.probation_events and model.version != self.model.version:
            compare(before, BEFORE, self.texts, settings.probation_share, {})
            self._on_probation, self._before = settings.probation_events, self.model
        self._items.adopt(model, known)
        self.model, self.texts = model, self._texts_of(model)
        for state in self._states.values():
            state.position = msgspec.structs.replace(state.position, bundle=model.version)
        pause = time.perf_counter() - began
        self._release_apprentice()
        self._metrics.swapped(model.encoder, pause)
        log.info("swapped", model=model.version, pause_ms=round(1000 * pause, 1))

    def fall_back(self, why: str) -> bool:
        """Go back to the model before, because the one that serves fails at everything; say whether there is one.

        Only while it is on probation: then the one before is still in memory, and has embedded the catalogue.
        """
        if (model := self._before) is None:
            return False
        log.error("the model fails; back to the one before", model=self.model.version, before=model.version, why=why)
        self._metrics.refused.labels("serving").inc()
        self._on_failure(self.model.version, why)
        self._swap(self._prepare(model, self._folds(), lambda done, of: self._beat()), probation=False)
        return True

    def catch_up(self, fold: Fold) -> None:
        """Bring a fold that was restored to the model that serves, where there was a swap meanwhile."""
        if fold.version != self.model.version:
            adopt(Prepared(self.model, dict(self._items.known()), {}, []), [fold], {})

    def judge(self, work: Work) -> None:
        """Count how models compare, after a commit; once enough events are ranked by both, the one before is let go."""
        self.judge_faults()
        if not work.overlaps and not any(evaluation.rivals for evaluation in work.evaluations):
            return
        rivals = {role: rival.version for fold in self._folds() for role, rival in fold.rivals.items()}
        self._metrics.overlap(work.overlaps, self.model.version, rivals)
        self._on_probation -= self._metrics.compared(work.evaluations, self.model.version, rivals)
        if self._on_probation <= 0:
            self._before = None
            for fold in self._folds():
                fold.rivals.pop(BEFORE, None)

    def judge_faults(self) -> None:
        """Say and count which models failed while they ranked; they are not tried again."""
        for fold in self._folds():
            for role, why in fold.faults:
                self._failed.add(role)
                self._metrics.refused.labels(role).inc()
                log.error("a model that ranked beside the one that serves fails, and is let go", role=role, why=why)
            fold.faults.clear()

    def _release_apprentice(self) -> None:
        """Let it go if it is what serves."""
        for fold in self._folds():
            if (rival := fold.rivals.get(APPRENTICE)) is not None and rival.version == self.model.version:
                del fold.rivals[APPRENTICE]
                log.info("the apprentice serves, and is compared no more", model=self.model.version)

    def _folds(self) -> list[Fold]:
        return [state.fold for state in list(self._states.values())]

    def _texts_of(self, model: Model) -> Texts:
        return Texts(model.encoder, self._settings.cached_texts, self._beat)
