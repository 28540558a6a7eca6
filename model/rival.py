"""Another encoder's view of the same stream: where it would have put what users then chose."""

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model.content import Content
from model.features import Features
from model.profile import Profile
from model.ranker import SoftmaxRanker

Array = NDArray[np.float32]


@dataclass
class Rival:
    """A model that does not serve: the one before (probation), or one that is to prove itself (apprentice).

    It shares everything that was counted and learnt: compared are the encoders alone.
    """

    version: str
    content: Content
    words: Mapping[str, Array]
    """Gives the vector of any text, whenever it is asked for."""
    share: float
    """Of the events that are evaluated, drawn by event id: every instance draws the same."""

    def drawn(self, event_id: str) -> bool:
        """Say whether it ranks at this event."""
        return zlib.crc32(f"{self.version}:{event_id}".encode()) < self.share * 2**32

    def put(self, position: int, n: int, text: str) -> None:
        """Take over an item's content; `position` is its index among `n`."""
        self.content.put(position, n, self.words[text])

    def rank(
        self, features: Features, ranker: SoftmaxRanker, profile: Profile, hidden: Sequence[int], item: int, lot: float
    ) -> int:
        """Return where it would have put the item, as `View.rank`."""
        catalogue = features.catalogue
        ours = catalogue.content
        self.content.grow(catalogue.capacity)
        catalogue.content = self.content
        try:
            history = features.history(profile, self.words)
            view = features.look(history, ranker, hidden, item)
        finally:
            catalogue.content = ours
        return view.rank(lot)
