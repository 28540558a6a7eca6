"""Why an item is in a list: signed parts of its score that add up, and sentences that say them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from model.events import Reason, Recommended
from model.features import FEATURE, NAMES, Array, History

if TYPE_CHECKING:
    from model.fold import Fold
    from model.profile import Profile

# A family's contribution is split over past events; the other features stand for themselves.
_TOGETHER = [FEATURE[n] for n in ("together", "together_cosine", "together_latest", "followed")]
_LIKED = [FEATURE[n] for n in ("liked_together", "liked_together_cosine")]
_CONTENT = [FEATURE[n] for n in ("content", "new_content")]
_ALONE = [FEATURE[n] for n in NAMES if FEATURE[n] not in _TOGETHER + _LIKED + _CONTENT]


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
    items = np.array(chosen)
    contributions = features[:, items] * fold.ranker.slopes[:, None]
    families = fold.features.parts(history, items)
    for parts, features_of in zip(families, (_TOGETHER, _LIKED, _CONTENT), strict=True):
        # Where no event had a part in an item (total 0), the family's contribution goes to `rest`.
        total = parts.sum(axis=0)
        total[total == 0] = np.inf
        parts *= contributions[features_of].sum(axis=0) / total
    table = np.concatenate([*families, contributions[_ALONE]])
    index = fold.catalogue.index
    liked = [r for r in profile.liked if r.item in index][: len(history.liked)]
    contents = profile.liked[: len(history.contents)]
    sources = (
        [("together", r) for r in profile.recent if r.item in index]
        + [("liked_together", r) for r in liked]
        + [("content", r) for r in contents]
        + [(NAMES[number], None) for number in _ALONE]
    )
    keep = min(fold.settings.reasons, len(sources))
    strongest = np.argsort(-np.abs(table.T), axis=1, kind="stable")[:, :keep].tolist()
    values, totals = table.T.tolist(), scores[items].tolist()
    slots = []
    for place, item in enumerate(chosen):
        reasons, row = [], values[place]
        rest = totals[place]
        for source in strongest[place]:
            value = row[source]
            if not value:
                continue
            rest -= value
            feature, reference = sources[source]
            if reference is None:
                reasons.append(Reason(value, feature))
            else:
                reasons.append(Reason(value, feature, reference.event, reference.item, reference.text))
        slots.append(Recommended(fold.catalogue.ids[item], totals[place], 1.0, reasons, rest, moved.get(item)))
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
