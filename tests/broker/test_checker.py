"""The checker of the torture: finds planted faults of each kind, says nothing of clean data nor of a real run."""

import json
import math
from collections.abc import Callable
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from consumer.loop import Loop
from model.events import Click, Search, decode_event
from model.fold import Fold
from tests.broker.test_serve import make, new_fold, prepare, running, send, turn_until
from tests.torture import reading, said
from tests.torture.actors import Acts
from tests.torture.checker import LIST, Account, Answer, Letter, Mark, Sent, Sighting, Verdict, check
from tests.torture.faults import AWAY, AWAY_SECONDS, BROKER, STORM_SECONDS, Diary, Done, Fault, Killed, plan
from tests.torture.load import REPEATED_SHARE, Source, sent
from tests.torture.takeovers import Takeover, summary, takeovers


def clean() -> Account:
    """Two partitions, two users, a repeated event, a search, an impression's place and a poison record."""
    none: frozenset[str] = frozenset()
    due = frozenset({LIST})
    records = [
        Sent(0, 0, "a", "u", 10, due, "i1"),
        Sent(0, 1, "b", "u", 20, due, "i2"),
        Sent(0, 2, "a", "u", 10, due, "i1"),  # again
        Sent(0, 3, "c", "u", 30, none),
        sent(1, 0, Search(id="s", user="v", at_ms=40, text="ships")),
        sent(1, 1, None),
        sent(1, 2, Click(id="d", user="v", at_ms=50, item="i1")),
    ]
    return Account(
        sent=records,
        lists=[Answer(0, 0, "u", "a"), Answer(0, 1, "u", "b"), Answer(1, 0, "v", "s"), Answer(1, 3, "v", "d")],
        letters=[Letter(1, 1)],
        marks=[Mark(0, 1, 1), Mark(0, 4, 2), Mark(1, 3, 1)],
        ends={0: 4, 1: 3},
        group={0: 4, 1: 3},
        interests=[Answer(1, 0, "v", "40")],
        sightings=[Sighting(0, "b", 2), Sighting(1, "d", 3)],
        users={"u": 3, "v": 2},
        engaged={0: {"i1": 2, "i2": 1}, 1: {"i1": 2, "i2": 1}},
    )


def test_nothing_is_said_where_nothing_is_wrong() -> None:
    assert check(clean()) == Verdict()


Plant = Callable[[Account], Account]
PLANTED: list[tuple[str, str, Plant]] = [
    ("lost", "list of b (0:1)", lambda a: replace(a, lists=[one for one in a.lists if one.event != "b"])),
    ("lost", "interests of s (1:0)", lambda a: replace(a, interests=[])),
    ("lost", "dead letter of 1:1", lambda a: replace(a, letters=[])),
    ("duplicated", "list of b (0:1) again at 0:7", lambda a: replace(a, lists=[*a.lists, Answer(0, 7, "u", "b")])),
    # The repetition was answered, too.
    ("duplicated", "list of a (0:0) again at 0:7", lambda a: replace(a, lists=[*a.lists, Answer(0, 7, "u", "a")])),
    ("duplicated", "interests of s", lambda a: replace(a, interests=[*a.interests, Answer(1, 9, "v", "40")])),
    ("duplicated", "dead letter of 1:1", lambda a: replace(a, letters=[*a.letters, Letter(1, 1)])),
    (
        "reordered", "list of a (0:0) after that of b",
        lambda a: replace(a, lists=[Answer(0, 5, "u", "a") if one.event == "a" else one for one in a.lists]),
    ),
    # Seen while the group's offset was not yet past it.
    (
        "aborted_visible", "list of b (0:1) was seen while the group stood at 1",
        lambda a: replace(a, sightings=[*a.sightings, Sighting(0, "b", 1)]),
    ),
    # Two transactions with one number: the first was aborted and done again.
    (
        "aborted_visible", "transaction 2 up to 4 comes after 2 up to 3",
        lambda a: replace(a, marks=[Mark(0, 1, 1), Mark(0, 3, 2), Mark(0, 4, 2), Mark(1, 3, 1)]),
    ),
    ("aborted_visible", "partition 0", lambda a: replace(a, marks=[*a.marks, Mark(0, 3, 3), Mark(0, 4, 4)])),
    # Answers to what no committed state has folded.
    (
        "aborted_visible", "list of b (0:1), which no state has folded",
        lambda a: replace(a, marks=[Mark(0, 1, 1), Mark(1, 3, 1)]),
    ),
    ("aborted_visible", "dead letter of 1:1", lambda a: replace(a, marks=[Mark(0, 4, 1), Mark(1, 1, 1)])),
    ("unexpected", "list of x for u", lambda a: replace(a, lists=[*a.lists, Answer(0, 7, "u", "x")])),
    ("unexpected", "list of c for u", lambda a: replace(a, lists=[*a.lists, Answer(0, 7, "u", "c")])),
    ("unexpected", "list of d for u", lambda a: replace(a, lists=[*a.lists, Answer(0, 7, "u", "d")])),
    ("unexpected", "dead letter of 0:1", lambda a: replace(a, letters=[*a.letters, Letter(0, 1)])),
    ("offsets", "partition 1: end 3, group 2, state 3", lambda a: replace(a, group={0: 4, 1: 2})),
    ("offsets", "partition 0: end 5, group 4, state 4", lambda a: replace(a, ends={0: 5, 1: 3})),
    ("state", "events of u: 3 sent, 4 counted", lambda a: replace(a, users={"u": 4, "v": 2})),
    (
        "state", "partition 1: engagements of i1: 2 sent, 1 counted",
        lambda a: replace(a, engaged={**a.engaged, 1: {"i1": 1, "i2": 1}}),
    ),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "said", "plant"), PLANTED)
def test_a_planted_fault_is_found(kind: str, said: str, plant: Plant) -> None:
    found = asdict(check(plant(clean())))
    assert any(said in line for line in found[kind]), found
    if kind not in ("aborted_visible", "offsets"):  # these come together
        assert [name for name, lines in found.items() if lines] == [kind]
        assert len(found[kind]) == 1


def test_the_load_repeats_and_its_events_are_told_apart() -> None:
    source, again = Source(3, ["i1", "i2"]), Source(3, ["i1", "i2"])
    made = [source.next() for _ in range(5000)]
    assert made == [again.next() for _ in range(5000)]
    good = [decode_event(one.value) for one in made if not one.value.startswith(b"poison")]
    assert len({(event.id, event.at_ms) for event in good}) == len({event.id for event in good})
    repeated = len(good) - len({event.id for event in good})
    assert 0 < repeated < 2 * REPEATED_SHARE * len(made)


def test_faults_come_from_the_seed_leave_calms_and_reach_everybody() -> None:
    faults = plan(5, 300)
    assert faults == plan(5, 300) != plan(6, 300)
    assert len(faults) >= 300 / 3
    kinds = {"broker_kill", "broker_stop", "serve_kill", "serve_kill_away", "serve_stop", "serve_term", "serve_twin"}
    assert {fault.kind for fault in plan(5, 1200)} == kinds
    assert {fault.target for fault in faults} == {BROKER, 0, 1}
    assert all(fault.at < STORM_SECONDS for fault in faults)
    # In each calm one kill and nothing else, long enough that the other instance must take over.
    calms = [fault for fault in faults if fault.act % 2]
    assert [fault.act for fault in calms] == [2 * number + 1 for number in range(len(calms))]
    assert {fault.how for fault in calms} == {AWAY}
    assert all(fault.lasts >= AWAY_SECONDS[0] for fault in calms)
    assert {fault.within for fault in plan(5, 1200) if fault.how == AWAY} == {True, False}


def test_acts_begin_one_after_the_other_until_the_time_is_up() -> None:
    acts = Acts(2)
    acts.ready(0)
    assert acts.began(0) is None
    acts.ready(0)
    assert acts.began(0) is not None
    acts.until = 0.0
    acts.ready(1)
    acts.ready(1)
    assert acts.began(1) == math.inf


def log_of(folder: Path, *lines: tuple[float, str, dict[str, object]]) -> Path:
    """Write a log as `serve` does; times in seconds."""
    path = folder / "serve.log"
    with path.open("w") as log:
        for at, event, more in lines:
            stamp = datetime.fromtimestamp(at, UTC).isoformat()
            log.write(json.dumps({**more, "event": event, "timestamp": stamp}) + "\n")
        log.write('{"cut off')
    return path


def test_takeovers_that_nothing_disturbs_are_told_from_others_and_late_ones_are_named(tmp_path: Path) -> None:
    log = log_of(
        tmp_path,
        (900.0, "restored", {"partition": 1}),  # before
        (1006.0, "partitions given", {"partitions": [1]}),
        (1007.0, "partitions given", {"partitions": [2]}),
        (1007.5, "restored", {"partition": 0}),  # of its own
        (1008.0, "restored", {"partition": 1}),
        (1008.5, "restored", {"partition": 2}),
        (1009.5, "restored", {"partition": 2}),  # again, later
    )

    def killed(at: float, took: float, caught: bool = False, away: bool = True) -> Killed:
        one = Killed(0, at * 1000, at, frozenset({1, 2}), caught, away)
        one.waiting.clear()
        one.answered_ms = (at + took) * 1000
        return one

    diary = Diary(
        done=[
            Done(Fault(1, 0, 0, AWAY, 20), 999.9, 1020, False),
            Done(Fault(2, 0, BROKER, "stop", 2), 1020, 1022, False),
        ],
        killed=[killed(1000, 9), killed(1000, 15, caught=True), killed(1000, 30), killed(1000, 5, away=False)],
    )
    found = takeovers(diary, {0: tmp_path / "none", 1: log})
    assert [one.alone for one in found] == [True, True, False, False]
    assert found[0] == Takeover(9, alone=True, caught=False, given=7, restored=(7.5, 8, 8.5))
    assert found[0].restore == found[1].restore == 1.5
    report = summary(found, 0, 6, 10)
    assert report["takeover_s"]["count"] == 4
    assert report["takeover_alone_s"] == {"p50": 12, "max": 15, "count": 2}
    assert report["takeover_alone_in_transaction_s"] == {"p50": 15, "max": 15, "count": 1}
    assert report["given_alone_s"]["max"] == 7
    assert report["takeover_late"] == [15]
    assert said.partitions(log, 0) == ({1, 2}, {0, 1, 2})


def knowing_items(loop: Loop) -> Callable[[], Fold]:
    """Return what makes folds that know the loop's items and nothing else."""

    def new() -> Fold:
        fold = new_fold()
        for item, vector in loop.items:
            fold.put_item(item, vector)
        return fold

    return new


def test_a_real_run_with_a_crash_within_a_transaction(bootstrap: str) -> None:
    settings = prepare(bootstrap, partitions=2).model_copy(
        update={"poll_events": 20, "snapshot_every": 50, "delta_ring": 16}
    )
    source = Source(1, [f"i{number}" for number in range(40)])
    send(settings, settings.events_topic, [source.next() for _ in range(400)])
    crashed = make(settings)
    turn_until(crashed, 200)

    # Dies within a transaction that answers an event which is folded later.
    halfway = reading.account(settings)
    due = [one for one in halfway.sent if LIST in one.due and one.offset >= halfway.group[one.partition]]
    producer = crashed._transactions._producer
    producer.begin_transaction()
    producer.produce(settings.recommendations_topic, b'{"event":"%s"}' % due[-1].event.encode(), due[-1].user.encode())
    producer.flush(5)
    assert not (before := check(reading.account(settings))).aborted_visible
    assert before.lost
    assert before.offsets
    seen = check(replace(halfway, lists=reading.lists(settings, "read_uncommitted")))
    assert [line.split()[2] for line in seen.aborted_visible] == [due[-1].event]

    with running(make(settings)) as loop:
        turn_until(loop, 400)
        account = reading.account(settings)
        reading.count_state(account, settings, knowing_items(loop))
    assert check(account) == Verdict()
    assert sum(one.due == frozenset({LIST}) for one in account.sent) > 300
    assert account.users
    assert account.letters
    assert account.interests
    stored = reading.lists(settings, "read_uncommitted")
    assert len(stored) == len(account.lists) + 1
    assert len(check(replace(account, lists=stored)).duplicated) == 1
    crashed.close()
