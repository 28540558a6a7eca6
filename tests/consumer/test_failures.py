"""Too many dead letters, or too many events that the fold fails at, end the process; poison does not."""

from typing import cast

import pytest
from confluent_kafka import Consumer, TopicPartition
from hypothesis import given, settings
from hypothesis import strategies as st

from consumer.batch import FoldFailed, Work
from consumer.failures import CALM_EVENTS, Failures, Tally
from consumer.settings import Settings
from consumer.state import FORMAT, PartitionState, Position
from model.errors import Fatal
from tests.consumer.test_state import new_fold

FOLD = new_fold()


def test_failures_close_together_end_it_and_others_do_not() -> None:
    failures = Failures(2)
    for offset in range(10):
        failures.note(FoldFailed(0, offset, ValueError("bad")))
        failures.committed(CALM_EVENTS, {}, {0})
    assert set(failures.skip) == {(0, offset) for offset in range(10)}
    state = PartitionState(0, new_fold(), Position(FORMAT, 9, 0, "", [], ""))
    failures.committed(CALM_EVENTS - 1, {0: state}, {})
    assert set(failures.skip) == {(0, 9)}  # the rest lies behind
    failures = Failures(2)
    for offset in range(2):
        failures.note(FoldFailed(0, offset, ValueError("bad")))
        failures.committed(CALM_EVENTS - 1, {}, {0})
    with pytest.raises(Fatal, match=r"3 events.*offset 2 \(ValueError: bad\).*max_failures"):
        failures.note(FoldFailed(0, 2, ValueError("bad")))


class Offsets:
    """What is used of a Consumer: remembers what was committed."""

    def __init__(self) -> None:
        self.there: dict[int, TopicPartition] = {}
        self.asked = 0

    def committed(self, asked: list[TopicPartition], _seconds: float) -> list[TopicPartition]:
        self.asked += 1
        return [self.there.get(one.partition, one) for one in asked]


def judged(fates: str, size: int = 1, restart: int = 0, share: float = 0.5) -> tuple[int, str]:
    """Judge dead (x), good (.) and failed (f) records; return how many were committed, and why no more."""
    offsets, failures = Offsets(), Failures(10)
    known = Settings(max_dead_run=20, max_dead_share=share)
    for start in range(0, len(fates), size):
        if restart and start // size % restart == 0:
            failures = Failures(10)
        state = PartitionState(0, FOLD, Position(FORMAT, start, 0, "", [], ""))
        part = fates[start : start + size]
        work = Work(offsets={0: start + len(part)})
        work.read[0] = {start + n: fate == "x" for n, fate in enumerate(part) if fate != "f"}
        work.dead["schema"] = part.count("x")
        try:
            failures.judge(work, {0: state}, cast(Consumer, offsets), known)
        except Fatal as fatal:
            return start, str(fatal)
        for one in failures.offsets("events", "abc"):
            offsets.there[one.partition] = one
        failures.committed(0, {0: state}, ())
    assert restart or offsets.asked == 1  # not at every poll
    return len(fates), ""


@pytest.mark.parametrize("restart", [0, 1, 3])
@pytest.mark.parametrize("size", [1, 7, 20, 500])
def test_a_run_of_dead_letters_ends_at_one_record_whatever_polls_and_restarts(size: int, restart: int) -> None:
    committed, why = judged("x." * 30 + "x" * 10 + "f" * 30 + "x" * 40, size, restart)
    tripped = 60 + 10 + 30 + 10  # the 21st in a row; those that failed count for nothing
    assert f"21 records in a row would be dead letters, the last at partition 0, offset {tripped} (" in why
    assert "max_dead_run" in why
    assert "\n" not in why
    assert committed == tripped // size * size


@pytest.mark.parametrize("restart", [0, 4])
@pytest.mark.parametrize("size", [1, 333])
def test_a_share_of_dead_letters_ends_at_one_record_whatever_polls_and_restarts(size: int, restart: int) -> None:
    committed, why = judged("." * 1500 + "xx." * 1000, size, restart)
    # Of the newest 1,000, 501 are dead first when 752 of them are of the second kind.
    assert "501 of 1000 records would be dead letters, the last at partition 0, offset 2250 (" in why
    assert "max_dead_share" in why
    assert committed == 2250 // size * size
    assert judged("." * 1500 + "xx." * 1000, size, restart, share=0)[1] == ""
    assert judged("." * 1500 + "xx." * 1000, size, restart, share=0.67)[1] == ""


def test_few_records_have_no_share_yet_and_no_good_one_ends_it() -> None:
    assert judged("xxx." * 250) == (1000, "")
    assert "750 of 1000 records would be dead letters, the last at partition 0, offset 1000" in judged("xxx." * 251)[1]


def test_what_was_drained_while_a_limit_was_off_is_forgotten() -> None:
    offsets, failures = cast(Consumer, Offsets()), Failures(10)
    for poll, known in enumerate((Settings(max_dead_run=0, max_dead_share=0), Settings(max_dead_run=20))):
        states = {0: PartitionState(0, FOLD, Position(FORMAT, poll * 2000, 0, "", [], ""))}
        fates = dict.fromkeys(range(poll * 2000, poll * 2000 + (20 if poll else 2000)), True)
        failures.judge(Work(offsets={0: (poll + 1) * 2000}, read={0: fates}), states, offsets, known)
        failures.committed(0, states, ())


@given(st.lists(st.sampled_from("....x"), min_size=2000, max_size=2000))
@settings(max_examples=20, deadline=None)
def test_poison_among_good_events_ends_nothing(fates: list[str]) -> None:
    told = "".join(fates)
    if "x" * 21 not in told and told.count("x") <= 500:
        assert judged(told, 100)[1] == ""


def test_where_another_instance_was_meanwhile_its_count_is_taken() -> None:
    offsets, failures, states = Offsets(), Failures(10), {}
    known = Settings(max_dead_run=20)

    def judge(start: int, dead: bool) -> None:
        states[0] = PartitionState(0, FOLD, Position(FORMAT, start, 0, "", [], ""))
        work = Work(offsets={0: start + 15}, read={0: dict.fromkeys(range(start, start + 15), dead)})
        failures.judge(work, states, cast(Consumer, offsets), known)
        failures.committed(0, states, ())

    judge(0, True)
    offsets.there[0] = TopicPartition("events", 0, 50, Tally(50, 0, 50, 0).note("abc"))
    judge(50, True)  # 15 in a row, not 30
    offsets.there[0] = TopicPartition("events", 0, 99, Tally(99, 15, 50, 0).note("abc"))
    with pytest.raises(Fatal, match="21 records"):
        judge(99, True)
    judge(99, False)
    for odd in (None, "", "by another program", "dead 1 2 x", "dead 99999999999999999999 1 0"):
        assert Tally.read(7, odd) == Tally(7)


def test_a_poll_that_is_read_again_counts_once() -> None:
    failures, offsets = Failures(10), cast(Consumer, Offsets())
    states = {0: PartitionState(0, FOLD, Position(FORMAT, 0, 0, "", [], ""))}
    work = Work(offsets={0: 15}, read={0: dict.fromkeys(range(15), True)})
    for _ in range(5):  # aborted each time
        failures.judge(work, states, offsets, Settings(max_dead_run=20))
