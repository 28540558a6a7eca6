"""What went in against what came out, in the manner of Jepsen's queue workload: pure, over lists of records.

Every event of the load has an id and a time of its own, so that a list (which names the event) and a user's interests
(which name the event's time) lead back to the one event that they answer.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

LIST, INTERESTS, LETTER = "list", "interests", "dead letter"


class Sent(NamedTuple):
    """A record of the events topic, in the order of its partition."""

    partition: int
    offset: int
    event: str
    """Id of the event; empty where the record is none (poison)."""
    user: str
    at_ms: int
    due: frozenset[str]
    """What must come of it, of LIST, INTERESTS, LETTER; nothing for an impression."""
    counts: str = ""
    """The item that the shared tables must count for it."""


class Answer(NamedTuple):
    """A list, or a user's interests, as a reader sees it."""

    partition: int
    offset: int
    """Its own, in the topic of outputs."""
    user: str
    event: str
    """Id of the event; of interests: its time, as text."""


class Letter(NamedTuple):
    """A dead letter."""

    partition: int
    offset: int
    """Of the event that it holds."""


class Mark(NamedTuple):
    """A position in the changelog, as one transaction wrote it; in the order of its partition."""

    partition: int
    offset: int
    """First event not yet folded."""
    sequence: int


class Sighting(NamedTuple):
    """A list that a reader saw while the stream ran, and what the group had committed when asked *after* that."""

    partition: int
    event: str
    committed: int


@dataclass
class Account:
    """All that was read back, `read_committed` unless said otherwise."""

    sent: Sequence[Sent]
    lists: Sequence[Answer]
    letters: Sequence[Letter]
    marks: Sequence[Mark]
    ends: Mapping[int, int]
    """Of each partition of the events."""
    group: Mapping[int, int]
    """Offsets that the group committed."""
    interests: Sequence[Answer] = ()
    sightings: Sequence[Sighting] = ()
    users: Mapping[str, int] | None = None
    """Events that the restored state has counted, by user; None: not looked at."""
    engaged: Mapping[int, Mapping[str, int]] = field(default_factory=dict)
    """Engagements that the restored state of each partition has counted, by item: its own users' and the others'."""


@dataclass
class Verdict:
    """What is wrong, each as one line that names the culprit."""

    lost: list[str] = field(default_factory=list)
    """Due, but not there."""
    duplicated: list[str] = field(default_factory=list)
    """There twice."""
    reordered: list[str] = field(default_factory=list)
    """A user's answers in another order than the events."""
    aborted_visible: list[str] = field(default_factory=list)
    """Shown to a read_committed reader though no committed transaction holds it."""
    unexpected: list[str] = field(default_factory=list)
    """An answer to nothing that was sent, or not due."""
    offsets: list[str] = field(default_factory=list)
    """The group's offset, the state's position and the end of the events are not one number."""
    state: list[str] = field(default_factory=list)
    """The restored state has counted something else than what was sent."""

    @property
    def good(self) -> bool:
        """Whether there is nothing to say."""
        return not any(vars(self).values())


def check(account: Account) -> Verdict:
    """Return what is wrong with an account; a record sent twice (one id, one user) is due once."""
    verdict = Verdict()
    first: dict[str, Sent] = {}
    times: dict[str, Sent] = {}
    for sent in account.sent:
        if sent.event and sent.event not in first:
            first[sent.event] = times[str(sent.at_ms)] = sent
    positions = {mark.partition: mark for mark in account.marks}
    folded = {partition: positions[partition].offset if partition in positions else 0 for partition in account.ends}
    for kind, answers, by in ((LIST, account.lists, first), (INTERESTS, account.interests, times)):
        _check_answers(kind, answers, by, folded, verdict)
    _check_letters(account, folded, verdict)
    _check_marks(account.marks, verdict)
    for sighting in account.sightings:
        event = first.get(sighting.event)
        if event is not None and event.offset >= sighting.committed:
            verdict.aborted_visible.append(
                f"list of {event.event} ({_place(event)}) was seen while the group stood at {sighting.committed}"
            )
    for partition, end in sorted(account.ends.items()):
        group = account.group.get(partition, 0)
        if not end == group == folded[partition]:
            verdict.offsets.append(f"partition {partition}: end {end}, group {group}, state {folded[partition]}")
    _check_state(account, first, verdict)
    return verdict


def _check_answers(
    kind: str, answers: Sequence[Answer], by: Mapping[str, Sent], folded: Mapping[int, int], verdict: Verdict
) -> None:
    seen: set[str] = set()
    newest: dict[str, Sent] = {}
    for answer in sorted(answers, key=lambda one: (one.partition, one.offset)):
        sent = by.get(answer.event)
        if sent is None or kind not in sent.due or sent.user != answer.user:
            verdict.unexpected.append(f"{kind} of {answer.event} for {answer.user} at {_place(answer)}")
            continue
        if answer.event in seen:
            verdict.duplicated.append(f"{kind} of {sent.event} ({_place(sent)}) again at {_place(answer)}")
            continue
        seen.add(answer.event)
        if sent.offset >= folded.get(sent.partition, 0):
            verdict.aborted_visible.append(f"{kind} of {sent.event} ({_place(sent)}), which no state has folded")
        before = newest.setdefault(sent.user, sent)
        if (sent.partition, sent.offset) < (before.partition, before.offset):
            verdict.reordered.append(f"{kind} of {sent.event} ({_place(sent)}) after that of {before.event}")
        newest[sent.user] = sent
    verdict.lost += [f"{kind} of {s.event} ({_place(s)})" for id, s in by.items() if kind in s.due and id not in seen]


def _check_letters(account: Account, folded: Mapping[int, int], verdict: Verdict) -> None:
    due = {(sent.partition, sent.offset): sent for sent in account.sent if LETTER in sent.due}
    seen: set[tuple[int, int]] = set()
    for letter in account.letters:
        if letter not in due:
            verdict.unexpected.append(f"{LETTER} of {_place(letter)}")
        elif letter in seen:
            verdict.duplicated.append(f"{LETTER} of {_place(letter)}")
        elif letter.offset >= folded.get(letter.partition, 0):
            verdict.aborted_visible.append(f"{LETTER} of {_place(letter)}, which no state has folded")
        seen.add((letter.partition, letter.offset))
    verdict.lost += [f"{LETTER} of {_place(sent)}" for place, sent in due.items() if place not in seen]


def _check_marks(marks: Sequence[Mark], verdict: Verdict) -> None:
    """See that transactions follow each other: of two with one number, one was not to be seen."""
    before: dict[int, Mark] = {}
    for mark in marks:
        last = before.get(mark.partition)
        if last is not None and (mark.sequence <= last.sequence or mark.offset <= last.offset):
            verdict.aborted_visible.append(
                f"partition {mark.partition}: transaction {mark.sequence} up to {mark.offset} comes after "
                f"{last.sequence} up to {last.offset}"
            )
        before[mark.partition] = mark


def _check_state(account: Account, first: Mapping[str, Sent], verdict: Verdict) -> None:
    if account.users is not None:
        users = Counter(sent.user for sent in first.values())
        verdict.state += _differences("events of", users, account.users)
    items = Counter(sent.counts for sent in first.values() if sent.counts)
    for partition, engaged in sorted(account.engaged.items()):
        verdict.state += _differences(f"partition {partition}: engagements of", items, engaged)


def _differences(what: str, wanted: Mapping[str, int], found: Mapping[str, int]) -> Iterable[str]:
    for name in sorted(wanted.keys() | found.keys()):
        sent, counted = wanted.get(name, 0), found.get(name, 0)
        if sent != counted:
            yield f"{what} {name}: {sent} sent, {counted} counted"


def _place(record: Sent | Answer | Letter) -> str:
    return f"{record.partition}:{record.offset}"
