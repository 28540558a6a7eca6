"""Another encoder's view of the same stream: where it would have put what users then chose."""

import zlib
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model.content import Content
from model.features import NAMES, Features, View
from model.profile import Profile
from model.ranker import SoftmaxRanker

Array = NDArray[np.float32]
LEARNT = NAMES.index("learnt")


@dataclass
class Rival:
    """A model that does not serve: the one before (probation), or one that is to prove itself (apprentice).

    It shares everything that was counted and learnt: compared are the encoders alone. What only this one's encoder
    learnt, though, what serves cannot weigh: it has a weight of its own, from its own choices.
    """

    version: str
    content: Content
    words: Mapping[str, Array]
    """Gives the vector of any text, whenever it is asked for."""
    share: float
    """Of the events that are evaluated, drawn by event id: every instance draws the same."""
    ranker: SoftmaxRanker
    """What serves ranks by at the beginning."""
    lists: bool = False
    """Whether it tells the lists that it would have shown."""

    def __post_init__(self) -> None:
        self.ranker = deepcopy(self.ranker)
        # It sees one of 1 / share events, and its steps are as much longer: it gets as far as if it served.
        self.ranker.gradients[LEARNT] *= self.share**2

    def drawn(self, event_id: str) -> bool:
        """Say whether it ranks at this event."""
        return zlib.crc32(f"{self.version}:{event_id}".encode()) < self.share * 2**32

    def put(self, position: int, n: int, text: str) -> None:
        """Take over an item's content; `position` is its index among `n`."""
        self.content.put(position, n, self.words[text])

    def look(
        self, features: Features, ranker: SoftmaxRanker, profile: Profile, hidden: Sequence[int], target: int = -1
    ) -> View:
        """Return the candidates as it sees them, as `Features.look`; `ranker` is what serves ranks by."""
        catalogue = features.catalogue
        ours = catalogue.content
        if self._alone(features):
            self.ranker.follow(ranker, but=LEARNT)
            ranker = self.ranker
        self.content.grow(catalogue.capacity)
        catalogue.content = self.content
        try:
            return features.look(features.history(profile, self.words), ranker, hidden, target)
        finally:
            catalogue.content = ours

    def rank(
        self, features: Features, ranker: SoftmaxRanker, profile: Profile, hidden: Sequence[int], item: int, lot: float
    ) -> int:
        """Return where it would have put the item, as `View.rank`; learn what the part that only it has is worth."""
        view = self.look(features, ranker, profile, hidden, item)
        rank = view.rank(lot)
        if self._alone(features) and view.proposed:
            self.ranker.learn(view.x, view.scores, view.there, view.target)
        return rank

    def _alone(self, features: Features) -> bool:
        """Say whether only its encoder learnt a part of its own, not the one that serves."""
        return len(self.content.parts) > len(features.catalogue.content.parts)
