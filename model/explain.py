"""Why an item is in a list: signed parts of its score that add up, and sentences that say them."""

from collections.abc import Mapping, Sequence

import numpy as np

from model.choosing import strongest_parts
from model.events import Reason, Recommended
from model.features import Features, History, View
from model.ranker import SoftmaxRanker

_FAMILIES = {
    "together": ("together", "together_cosine", "together_latest", "followed", "new_together_cosine"),
    "liked_together": ("liked_together", "liked_together_cosine"),
    "content": ("content", "new_content"),
}
"""Features whose contribution is split over past events; the others stand for themselves."""


class Explainer:
    """Splits scores into parts, of which the strongest are reasons."""

    def __init__(self, features: Features, ranker: SoftmaxRanker, reasons: int) -> None:
        self._features, self._ranker, self._reasons = features, ranker, reasons
        families = list(_FAMILIES.values())
        owners = [next((n for n, family in enumerate(families) if f in family), 3) for f in features.names]
        owners[features.names.index("searched")] = 4
        self._family = np.array(owners, np.int64)
        self._alone = [name for name, owner in zip(features.names, owners, strict=True) if owner == 3]

    def slots(self, view: View, history: History, chosen: Sequence[int], moved: Mapping[int, str]) -> list[Recommended]:
        """Return the slots of a list; a slot's reasons and its `rest` add up to its score.

        `chosen` and the keys of `moved` are columns of the `view` that they were chosen from.
        """
        past, items = view.past, np.array(chosen, np.int64)
        sources = np.zeros((len(items), self._reasons), np.int64)
        values = np.zeros((len(items), self._reasons), np.float32)
        strongest_parts(
            view.x, self._ranker.slopes, self._family, items, past.recent, past.liked, past.contents, history.latest,
            past.text.shifts, past.together, past.liked_together, past.text.similarity, past.text.searched,
            past.text.common, sources, values,
        )  # fmt: skip
        counts = (len(history.recent), len(history.liked), len(history.contents))
        names = [name for name, count in zip(_FAMILIES, counts, strict=True) for _ in range(count)]
        ids, own = self._features.catalogue.ids, len(history.past)
        slots = []
        for column, score, where, parts in zip(
            chosen, view.scores[items].tolist(), sources.tolist(), values.tolist(), strict=True
        ):
            reasons = []
            for source, value in zip(where, parts, strict=True):
                if not value:
                    break  # the strongest come first
                if source < own:
                    before = history.past[source]
                    reasons.append(Reason(value, names[source], before.event, before.item, before.text))
                else:
                    reasons.append(Reason(value, self._alone[source - own]))
            slots.append(
                Recommended(ids[view.position(column)], score, 1.0, reasons, score - sum(parts), moved.get(column))
            )
        return slots


_SENTENCES = {
    "en": {
        "together": "people who looked at {past} also looked at it",
        "liked_together": "people who liked {past} liked it too",
        "content": "its text is close to {past}",
        "popularity": "many people like it",
        "recent_popularity": "many people look at it at the moment",
        "liked_share": "most of those who tried it liked it",
        "tags": "it is of the kinds you like",
        "content_best": "its text is close to something you liked",
        "new": "hardly anybody chose it so far",
        "new_content_best": "it is new, and its text is close to something you liked",
        "new_tags": "it is new, and of the kinds you like",
        "learnt": "who likes texts like those you liked chooses such texts",
        "modality": "its {feature} is like that of what you liked",
    },
    "zh": {
        "together": "看过{past}的人也看了它",
        "liked_together": "喜欢{past}的人也喜欢它",
        "content": "它的内容与{past}相近",
        "popularity": "很多人喜欢它",
        "recent_popularity": "最近很多人在看它",
        "liked_share": "看过它的人大多喜欢它",
        "tags": "属于你喜欢的类型",
        "content_best": "它的内容与你喜欢的相近",
        "new": "至今很少有人选过它",
        "new_content_best": "它是新上架的，内容与你喜欢的相近",
        "new_tags": "它是新上架的，属于你喜欢的类型",
        "learnt": "喜欢同类内容的人会选择这样的内容",
        "modality": "它的{feature}与你喜欢的相近",
    },
}


_MODALITIES = {("zh", "image"): "图像", ("zh", "audio"): "声音", ("en", "audio"): "sound"}


def sentence(reason: Reason, titles: Mapping[str, str], language: str = "en") -> str:
    """Return one reason as words; `titles` maps item ids to titles.

    >>> sentence(Reason(0.5, "liked_together", "e1", "i1"), {"i1": "Alien"})
    'people who liked "Alien" liked it too (+0.50)'
    """
    quote = ("“", "”") if language == "zh" else ('"', '"')
    past = reason.text or titles.get(reason.item or "", reason.item or "")
    known = _SENTENCES[language]
    words = known.get(reason.feature, known["modality"]).format(
        past=f"{quote[0]}{past}{quote[1]}", feature=_MODALITIES.get((language, reason.feature), reason.feature)
    )
    return f"{words} ({reason.contribution:+.2f})"
