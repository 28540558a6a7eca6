"""The contracts: every message on the wire, decoded with validation and bounds."""

import math
from typing import Annotated, Any, ClassVar

import msgspec

from model.errors import BadEvent

MAX_BYTES = 128 * 1024
MAX_FUTURE_MS = 5 * 60 * 1000
"""An event may be at most this much later than its record's timestamp (clock skew)."""

Id = Annotated[str, msgspec.Meta(min_length=1, max_length=256)]
Text = Annotated[str, msgspec.Meta(min_length=1, max_length=8192)]
Millis = Annotated[int, msgspec.Meta(ge=0, le=4_102_444_800_000, description="Milliseconds since 1970, UTC")]
Number = Annotated[float, msgspec.Meta(ge=-1e6, le=1e6)]
ContextValue = Annotated[str, msgspec.Meta(max_length=256)] | Number | bool | None
Context = Annotated[dict[Id, ContextValue], msgspec.Meta(max_length=32)]


class _Event(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", omit_defaults=True):
    """What every event has: `id` is unique, `user` is the record's key."""

    id: Id
    user: Id
    at_ms: Millis
    context: Context | None = None
    recommendation: Id | None = None
    rank: Annotated[int, msgspec.Meta(ge=0, le=10_000)] | None = None

    kind: ClassVar[str]
    weight: ClassVar[float] = 0.0
    """How much one such event says of the user's liking; > 0 engagement, < 0 rejection."""
    lists: ClassVar[bool] = False
    """Whether such an event is answered with a list."""


class _ItemEvent(_Event, frozen=True, kw_only=True):
    item: Id


class Click(_ItemEvent, frozen=True, kw_only=True, tag="click"):
    """The user opened an item."""

    kind = "click"
    weight = 1.0
    lists = True


class View(_ItemEvent, frozen=True, kw_only=True, tag="view"):
    """The user looked at an item for a while."""

    kind = "view"
    weight = 0.5
    lists = True


class Purchase(_ItemEvent, frozen=True, kw_only=True, tag="purchase"):
    """The user bought, subscribed, finished."""

    kind = "purchase"
    weight = 2.0
    lists = True


class Rating(_ItemEvent, frozen=True, kw_only=True, tag="rating"):
    """Stars, 1-5; four and five are liking, the rest is history only."""

    value: Annotated[float, msgspec.Meta(ge=0, le=5)]

    kind = "rating"
    lists = True


class Review(_ItemEvent, frozen=True, kw_only=True, tag="review"):
    """Words about an item, stars where known."""

    text: Text
    value: Annotated[float, msgspec.Meta(ge=0, le=5)] | None = None

    kind = "review"
    weight = 1.0
    lists = True


class Dismiss(_ItemEvent, frozen=True, kw_only=True, tag="dismiss"):
    """'Not for me': never shown again."""

    kind = "dismiss"
    weight = -1.0
    lists = True


class Search(_Event, frozen=True, kw_only=True, tag="search"):
    """Words typed by the user."""

    text: Text

    kind = "search"
    weight = 1.0
    lists = True


class Impression(_Event, frozen=True, kw_only=True, tag="impression"):
    """A list (named by `recommendation`), or one item, was really seen."""

    item: Id | None = None

    kind = "impression"


class Request(_Event, frozen=True, kw_only=True, tag="request"):
    """A page opened that wants a list."""

    kind = "request"
    lists = True


class Forget(_Event, frozen=True, kw_only=True, tag="forget"):
    """Erase the user."""

    kind = "forget"


Event = Click | View | Purchase | Rating | Review | Dismiss | Search | Impression | Request | Forget
ItemEvent = Click | View | Purchase | Rating | Review | Dismiss

Vector = Annotated[list[Number], msgspec.Meta(min_length=1, max_length=4096)]


class Item(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Something to recommend; compacted by `item`, a tombstone takes it out of the catalogue."""

    item: Id
    title: Annotated[str, msgspec.Meta(max_length=1024)] = ""
    text: Annotated[str, msgspec.Meta(max_length=16384)] = ""
    tags: Annotated[list[Id], msgspec.Meta(max_length=64)] = []
    vectors: Annotated[dict[Id, Vector], msgspec.Meta(max_length=8)] | None = None
    attributes: Context | None = None
    available: bool = True
    published_ms: Millis | None = None

    def content(self) -> str:
        """Return the text that stands for the item: title, description and tags, which are words, too."""
        parts = (self.title, self.text.removesuffix("."), ", ".join(self.tags))
        return ". ".join(part for part in parts if part)


class Reason(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """One signed part of a score: a past event's share of a feature, or a whole feature."""

    contribution: float
    feature: str
    event: str | None = None
    item: str | None = None
    text: str | None = None


class Recommended(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """One slot of a list; `because` holds the strongest reasons, `rest` what the others add up to."""

    item: str
    score: float
    propensity: float
    because: list[Reason]
    rest: float = 0.0
    moved_by: str | None = None


class Recommendation(msgspec.Struct, frozen=True, gc=False):
    """A list for a user, an answer to `event`."""

    id: str
    user: str
    at_ms: int
    event: str
    model: str
    ranker: int
    policy: str
    items: list[Recommended]


class Evidence(msgspec.Struct, frozen=True, gc=False):
    """A past event that speaks for a topic."""

    event: str
    weight: float


class Topic(msgspec.Struct, frozen=True, gc=False):
    """One interest: its share of the user's liking (all shares sum to 1), and why we think so."""

    topic: str
    probability: float
    evidence: list[Evidence]


class Interests(msgspec.Struct, frozen=True, gc=False):
    """What a user likes, by topics of the taxonomy, zero-shot from text."""

    user: str
    at_ms: int
    model: str
    topics: list[Topic]


class DeadLetter(msgspec.Struct, frozen=True):
    """A record that can never be handled, with all that is needed to look at it or to replay it."""

    topic: str
    partition: int
    offset: int
    reason: str
    detail: str
    key: bytes | None
    value: bytes | None


class TuneRequest(msgspec.Struct, frozen=True):
    """Drift was detected: somebody may tune. `n` measurements of `signal` have the mean `after`, those before `before`.

    `at_ms` is stream time; `model` ranked what was measured.
    """

    id: str
    at_ms: int
    signal: str
    detector: str
    before: float
    after: float
    n: int
    model: str


_event_decoder = msgspec.json.Decoder(Event)
_item_decoder = msgspec.json.Decoder(Item)
_encoder = msgspec.json.Encoder()
encode = _encoder.encode
"""Return any message as JSON bytes."""


def decode_with(decoder: "msgspec.json.Decoder[Any]", value: bytes | None) -> Any:
    """Return what `decoder` makes of a record's value; raises `BadEvent`, whatever the bytes."""
    if value is None:
        raise BadEvent("null", "the record has no value")
    if len(value) > MAX_BYTES:
        raise BadEvent("too_large", f"{len(value)} bytes, at most {MAX_BYTES}")
    try:
        return decoder.decode(value)
    except msgspec.ValidationError as error:
        reason = "unknown_kind" if "`$.kind`" in str(error) else "schema"
        raise BadEvent(reason, str(error)[:300]) from None
    except UnicodeDecodeError as error:
        raise BadEvent("not_utf8", str(error)[:300]) from None
    except RecursionError:
        raise BadEvent("too_deep", "nested too deeply") from None
    except msgspec.DecodeError as error:
        raise BadEvent("not_json", str(error)[:300]) from None
    except Exception as error:  # no byte string may stop the stream: whatever the decoder raises is the record's fault
        raise BadEvent("undecodable", f"{type(error).__name__}: {error}"[:300]) from None


def decode_event(value: bytes | None, record_ms: int | None = None) -> Event:
    """Return the event in a record's value.

    Raises `BadEvent` for whatever cannot be handled; `record_ms` is the record's timestamp, against which
    an event from the future is refused.

    >>> decode_event(b'{"kind":"click","id":"e1","user":"u1","at_ms":5,"item":"i1"}').user
    'u1'
    """
    event: Event = decode_with(_event_decoder, value)
    if record_ms is not None and event.at_ms > record_ms + MAX_FUTURE_MS:
        raise BadEvent("future", f"at_ms is {event.at_ms - record_ms} ms after the record's timestamp")
    return event


def decode_item(value: bytes | None) -> Item:
    """Return the item in a record's value; raises `BadEvent`. A tombstone is for the caller to see first."""
    item: Item = decode_with(_item_decoder, value)
    for name, vector in (item.vectors or {}).items():
        if not math.isfinite(sum(vector)):
            raise BadEvent("schema", f"vector {name!r} is not finite")
    return item


def liking(event: Event, positive: float | None = None) -> float:
    """Return how much `event` speaks for its item: > 0 liking, 0 history only, < 0 rejection.

    `positive` is the probability, where known, that the words of a review without a value are positive: what is at
    least as likely as not counts from 1 (as four stars do) to 2 (as five).
    """
    if isinstance(event, Rating):
        return event.value - 3.0 if event.value >= 4 else 0.0
    if isinstance(event, Review):
        if event.value is not None:
            return event.value - 3.0 if event.value >= 4 else 0.0
        if positive is not None:
            return 2 * positive if positive >= 0.5 else 0.0
    return event.weight
