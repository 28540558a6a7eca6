"""Why an item is in a list: signed parts of its score that add up, and sentences that say them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from model.events import Reason, Recommended
from model.features import NAMES, Array, History
from model.kernels import strongest_parts

if TYPE_CHECKING:
    from model.fold import Fold
    from model.profile import Profile

_FAMILIES = (
    ("together", "together_cosine", "together_latest", "followed", "new_together_cosine"),
    ("liked_together", "liked_together_cosine"),
    ("content", "new_content"),
)
"""Features whose contribution is split over past events; the others stand for themselves."""
_ALONE = [name for name in NAMES if not any(name in family for family in _FAMILIES)]
_FAMILY = np.array([next((n for n, family in enumerate(_FAMILIES) if name in family), 3) for name in NAMES], np.int64)


def explain(
    fold: Fold,
    features: Array,
    scores: Array,
    history: History,
    profile: Profile,
    chosen: Sequence[int],
    moved: Mapping[int, str],
) -> list[Recommended]:
    """Return the slots of a list; a slot's reasons and its `rest` add up to its score."""
    items = np.array(chosen, np.int64)
    shape = (len(items), fold.settings.reasons)
    strongest, values = np.zeros(shape, np.int64), np.zeros(shape, np.float32)
    strongest_parts(
        features[:, items] * fold.ranker.slopes[:, None],
        _FAMILY,
        items,
        history.recent,
        history.liked,
        history.contents,
        fold.tables.together,
        fold.tables.liked_together,
        strongest,
        values,
    )
    index = fold.catalogue.index
    recent = [r for r in profile.recent if r.item in index]
    liked = [r for r in profile.liked if r.item in index][: len(history.liked)]
    references = recent + liked + profile.liked[: len(history.contents)]
    names = (
        ["together"] * len(recent)
        + ["liked_together"] * len(liked)
        + ["content"] * (len(references) - len(recent) - len(liked))
        + _ALONE
    )
    totals = scores[items]
    slots = []
    for item, score, rest, sources, parts in zip(
        chosen,
        totals.tolist(),
        (totals - values.sum(axis=1)).tolist(),
        strongest.tolist(),
        values.tolist(),
        strict=True,
    ):
        reasons = []
        for source, value in zip(sources, parts, strict=True):
            if not value:
                continue
            if source < len(references):
                past = references[source]
                reasons.append(Reason(value, names[source], past.event, past.item, past.text))
            else:
                reasons.append(Reason(value, names[source]))
        slots.append(Recommended(fold.catalogue.ids[item], score, 1.0, reasons, rest, moved.get(item)))
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
        "new": "it is new here",
        "new_content_best": "it is new, and its text is close to something you liked",
        "new_tags": "it is new, and of the kinds you like",
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
        "new": "它是新上架的",
        "new_content_best": "它是新上架的，内容与你喜欢的相近",
        "new_tags": "它是新上架的，属于你喜欢的类型",
    },
}


def sentence(reason: Reason, titles: Mapping[str, str], language: str = "en") -> str:
    """Return one reason as words; `titles` maps item ids to titles.

    >>> sentence(Reason(0.5, "liked_together", "e1", "i1"), {"i1": "Alien"})
    'people who liked "Alien" liked it too (+0.50)'
    """
    quote = ("“", "”") if language == "zh" else ('"', '"')
    past = reason.text or titles.get(reason.item or "", reason.item or "")
    words = _SENTENCES[language][reason.feature].format(past=f"{quote[0]}{past}{quote[1]}")
    return f"{words} ({reason.contribution:+.2f})"
