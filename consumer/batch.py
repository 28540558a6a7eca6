"""One poll's events: decoded, embedded once for all, folded in order; the outputs wait for their transaction."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from consumer.embedding import EncoderFails, embed
from consumer.settings import Settings
from consumer.state import PartitionState
from model.encoding import Encoder
from model.errors import BadEvent
from model.events import DeadLetter, Event, Interests, Recommendation, Search, encode
from model.outcome import Evaluation, Outcome

Vector = NDArray[np.float32]
BATCH_TEXTS = 256
"""So many texts are embedded between two beats of the heart: long ones, on a slow machine, take seconds."""
MAX_RECORD_BYTES = 900 * 1024
"""A broker takes 1 MB by default; larger outputs are left out and counted."""
KEPT_BYTES = 512 * 1024
"""Of a dead-lettered value, which grows by a third as base64."""
KEPT_KEY_BYTES = 4096
CUT = "bytes are kept)"
"""How the detail of a dead letter ends whose value is not whole."""


class Source(Protocol):
    """What is used of confluent-kafka's Message."""

    def partition(self) -> Any: ...
    def offset(self) -> Any: ...
    def key(self) -> Any: ...
    def value(self) -> Any: ...
    def timestamp(self) -> Any: ...


class FoldFailed(Exception):
    """The fold raised something unforeseen; the states of this poll are no longer what the changelog says."""

    def __init__(self, partition: int, offset: int, error: Exception) -> None:
        super().__init__(f"{type(error).__name__}: {error}")
        self.place = (partition, offset)


class Texts(dict[str, Vector]):
    """Vectors of texts of one encoder version; what is missing is embedded when asked for."""

    def __init__(self, encoder: Encoder, limit: int, beat: Callable[[], None] = lambda: None) -> None:
        super().__init__()
        self._encoder, self._limit, self._beat = encoder, limit, beat
        self.embedded = self.known = 0
        self.failed: dict[str, str] = {}
        """Texts that the encoder cannot embed, and why."""

    def __missing__(self, text: str) -> Vector:
        self.need([text])
        # Nothing like anything: words in a history that an earlier bundle could embed and this one cannot.
        return np.zeros(self._encoder.dim, np.float32) if text in self.failed else self[text]

    def need(self, texts: Sequence[str]) -> None:
        """Embed those that are not known, many in one batch; the oldest make room first. Raises `Fatal` as `embed`."""
        unseen = [text for text in dict.fromkeys(texts) if text not in self and text not in self.failed]
        self.known += len(texts) - len(unseen)
        if not unseen:
            return
        kept: tuple[dict[str, Any], ...] = (self, self.failed)
        asked = set(texts)
        for known in kept:
            for oldest in list(known)[: max(0, len(known) + len(unseen) - self._limit)]:
                if oldest not in asked:
                    del known[oldest]
        for start in range(0, len(unseen), BATCH_TEXTS):
            self._beat()
            vectors, failed = embed(self._encoder, unseen[start : start + BATCH_TEXTS])
            self.embedded += len(vectors)
            self.update(vectors)
            self.failed |= failed


@dataclass
class Work:
    """What one poll leads to; counted once it is committed."""

    outputs: list[tuple[str, bytes | None, bytes | None]] = field(default_factory=list)
    """Topic, key, value."""
    users: dict[int, dict[str, None]] = field(default_factory=dict)
    offsets: dict[int, int] = field(default_factory=dict)
    folded: Counter[int] = field(default_factory=Counter)
    kinds: Counter[str] = field(default_factory=Counter)
    dead: Counter[str] = field(default_factory=Counter)
    read: dict[int, dict[int, bool]] = field(default_factory=dict)
    """By partition and offset: whether it is a dead letter; without those for which the fold failed."""
    problems: Counter[str] = field(default_factory=Counter)
    rewards: Counter[str] = field(default_factory=Counter)
    evaluations: list[Evaluation] = field(default_factory=list)
    timestamps_ms: list[int] = field(default_factory=list)
    lists: int = 0
    muted: int = 0
    """Lists that were not sent, because they are too old or a predecessor sent them."""
    overlaps: list[tuple[str, float]] = field(default_factory=list)
    """Of lists that a model in some role would have shown: the role, and the share of the sent list's items in it."""
    interests: list[Interests] = field(default_factory=list)
    """Those among the outputs."""
    expired: int = 0
    """Users dropped because they were unheard of for the TTL."""
    foreign_keys: int = 0
    """Events whose key is not their user."""
    foreign_partitions: int = 0
    """Events elsewhere than Kafka's usual partitioner puts their key."""


Decoded = tuple[Source, PartitionState, Event, int]


def fold_poll(
    messages: Sequence[Source],
    states: Mapping[int, PartitionState],
    texts: Texts,
    settings: Settings,
    skip: Mapping[tuple[int, int], str],
    places: Mapping[bytes, int] | None = None,
    oldest_ms: int = 0,
) -> Work:
    """Fold the messages of those partitions that have a state.

    `skip` holds places that failed before, and why; `places` says on which partition a key belongs; lists for records
    older than `oldest_ms` are not sent.

    Raises:
        FoldFailed: an event made the fold raise; restore the states, put its place into `skip`, fold again.
        EncoderFails: the encoder fails at everything; the states may have changed.
    """
    work = Work()
    decoded = _decode(messages, states, settings, skip, work)
    wanted: list[str] = []
    for _, state, event, _ in decoded:
        wanted += state.fold.texts(event)
    if wanted:
        texts.need(wanted)
    if texts.failed:
        decoded = [one for one in decoded if not _unreadable(one, texts.failed, settings, work)]
    outputs, folded, kinds, users_of = work.outputs, work.folded, work.kinds, work.users
    timestamps_ms = work.timestamps_ms
    lists_topic, interests_topic = settings.recommendations_topic, settings.interests_topic
    of_users = (interests_topic, lists_topic, *([settings.apprentice_topic] if settings.apprentice else []))
    newest: dict[bytes, int] = {}
    compared: dict[bytes, Outcome] = {}
    """Whose list was sent, with what others would have shown; not told yet, as a newer one may take its place."""
    for message, state, event, timestamp_ms in decoded:
        partition = state.partition
        try:
            outcome = state.fold.apply(event, texts)
            user = event.user
            name = user.encode()
            if outcome.recommendation is not None:
                value = encode(outcome.recommendation)
                if 0 < timestamp_ms < oldest_ms or message.offset() < state.position.answers_from:
                    work.muted += 1
                elif len(value) > MAX_RECORD_BYTES:
                    work.problems["list_too_large"] += 1
                else:
                    if settings.coalesce and name in newest:
                        outputs[newest[name]] = (lists_topic, name, value)
                    else:
                        newest[name] = len(outputs)
                        outputs.append((lists_topic, name, value))
                        work.lists += 1
                    compared[name] = outcome
                    if not settings.coalesce:
                        _tell_beside(compared, name, settings.apprentice_topic, work)
            if outcome.interests is not None:
                _tell(outcome.interests, interests_topic, name, work)
            elif event.kind == "forget":
                newest.pop(name, None)  # a list that comes after must not take the place of one before the tombstone
                _tell_beside(compared, name, settings.apprentice_topic, work)
                outputs += [(topic, name, None) for topic in of_users]
        except EncoderFails:
            raise
        except Exception as error:
            raise FoldFailed(partition, message.offset(), error) from error
        key = message.key()
        if key != name:
            work.foreign_keys += 1
        if places is not None and key is not None and places[key] != partition:
            work.foreign_partitions += 1
        kinds[event.kind] += 1
        folded[partition] += 1
        users_of.setdefault(partition, {})[user] = None
        if outcome.problem is not None:
            work.problems[outcome.problem] += 1
        if outcome.evaluation is not None:
            work.evaluations.append(outcome.evaluation)
        if outcome.answer is not None:
            work.rewards["yes" if outcome.answer.reward else "no"] += 1
        timestamps_ms.append(timestamp_ms)
    for name in list(compared):
        _tell_beside(compared, name, settings.apprentice_topic, work)
    for partition in folded:
        for user in states[partition].fold.collect():
            users_of[partition][user] = None
            name = user.encode()
            outputs += [(topic, name, None) for topic in of_users]
            work.expired += 1
    return work


def _tell_beside(compared: dict[bytes, Outcome], name: bytes, topic: str, work: Work) -> None:
    """Send what others would have shown a user instead of the list that was sent, and note what they have in common."""
    outcome = compared.pop(name, None)
    if outcome is not None and outcome.recommendation is not None:
        for role, other in outcome.beside.items():
            work.outputs.append((topic, name, encode(other)))
            work.overlaps.append((role, _overlap(outcome.recommendation, other)))


def _overlap(one: Recommendation, other: Recommendation) -> float:
    """Return the share of a list's items that are in another."""
    return len({slot.item for slot in one.items} & {slot.item for slot in other.items}) / len(one.items)


def _tell(interests: Interests, topic: str, name: bytes, work: Work) -> None:
    value = encode(interests)
    if len(value) > MAX_RECORD_BYTES:
        work.problems["interests_too_large"] += 1
    else:
        work.outputs.append((topic, name, value))
        work.interests.append(interests)


def _decode(
    messages: Sequence[Source],
    states: Mapping[int, PartitionState],
    settings: Settings,
    skip: Mapping[tuple[int, int], str],
    work: Work,
) -> list[Decoded]:
    decoded: list[Decoded] = []
    decode = settings.decode
    for message in messages:
        partition, offset = message.partition(), message.offset()
        state = states.get(partition)
        if state is None or offset < state.position.offset:  # not ours (any more), or folded before a rewind
            continue
        work.offsets[partition] = offset + 1
        read = work.read.setdefault(partition, {})
        kind, timestamp_ms = message.timestamp()
        if (partition, offset) in skip:
            _bury(message, BadEvent("failed", skip[partition, offset]), settings, work)
            continue
        try:
            event = decode(message.value(), timestamp_ms if kind else None)
        except BadEvent as bad:
            read[offset] = True
            _bury(message, bad, settings, work)
        else:
            read[offset] = False
            decoded.append((message, state, event, timestamp_ms))
    return decoded


def _unreadable(one: Decoded, failed: Mapping[str, str], settings: Settings, work: Work) -> bool:
    """Say whether an event's own words cannot be embedded; it is a dead letter then."""
    message, state, event, _ = one
    if not isinstance(event, Search) or event.text not in failed:
        return False
    work.read[state.partition][message.offset()] = True
    _bury(message, BadEvent("text", failed[event.text]), settings, work)
    return True


def _bury(message: Source, bad: BadEvent, settings: Settings, work: Work) -> None:
    work.dead[bad.reason] += 1
    key, value, detail = message.key(), message.value(), bad.detail[:400]
    if value is not None and len(value) > KEPT_BYTES:
        detail = f"{detail} (only the first {KEPT_BYTES} of {len(value)} {CUT}"
        value = value[:KEPT_BYTES]
    key = key and key[:KEPT_KEY_BYTES]
    place = settings.events_topic, message.partition(), message.offset()
    work.outputs.append((settings.dead_letters_topic, key, encode(DeadLetter(*place, bad.reason, detail, key, value))))
