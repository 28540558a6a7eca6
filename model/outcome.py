"""What one event leads to: a list, interests, where the rankers had what was chosen, which list it answers."""

from collections.abc import Sequence

import msgspec

from model.events import Dismiss, Interests, ItemEvent, Recommendation
from model.profile import Shown


class Evaluation(msgspec.Struct, frozen=True):
    """Where each ranker had put the item that the user then chose; 0 is the top. Measured before learning."""

    ranks: dict[str, int]
    cold_user: bool
    new_item: bool
    log_loss: float = 0.0
    """Minus the natural logarithm of the probability that the ranker gave the item."""
    rivals: dict[str, int] = {}
    """Where models that do not serve would have put it, by role; few events are ranked by them."""
    item_events: int = 0
    """Engagements of the item so far."""


class Answer(msgspec.Struct, frozen=True):
    """An event that answers a list: what the user chose there, and what was shown and not chosen."""

    recommendation: str
    item: str
    reward: bool
    """The list held the item, and the event does not reject it."""
    passed: list[str]
    """The list's other items, best first: negatives for training."""


class Outcome(msgspec.Struct, frozen=True):
    """What one event leads to."""

    recommendation: Recommendation | None = None
    interests: Interests | None = None
    evaluation: Evaluation | None = None
    answer: Answer | None = None
    """None where the event answers no list that is remembered."""
    problem: str | None = None
    beside: dict[str, Recommendation] = {}
    """What models that do not serve would have shown instead, by role; without reasons."""


def answered(lists: Sequence[Shown], event: ItemEvent, window_ms: int) -> Answer | None:
    """Return which of a user's `lists`, newest first, the event answers: the one that it names.

    If it names none, the newest that held its item and was seen (an impression said so) at most `window_ms` before.
    """
    for shown in lists:
        if event.recommendation is None:
            recent = 0 <= event.at_ms - shown.at_ms <= window_ms
            fits = shown.seen and event.item in shown.items and recent
        else:
            fits = shown.id == event.recommendation
        if fits:
            reward = event.item in shown.items and not isinstance(event, Dismiss)
            return Answer(shown.id, event.item, reward, [item for item in shown.items if item != event.item])
    return None
