"""Detectors of drift: a rise that stays is found whichever signal it is in, noise and falls are not."""

import random
from collections.abc import Callable

import msgspec
import pytest

from consumer.batch import Work
from consumer.drift import Detection, Drift
from consumer.metrics import Metrics
from consumer.settings import Settings
from consumer.tune_requests import TuneRequests
from model.events import Interests, Topic, TuneRequest
from model.outcome import Evaluation

BLOCK = 40
HOUR_MS = 3_600_000
Measured = tuple[Evaluation, Interests]
Law = Callable[[int], tuple[float, float, float]]
"""Mean loss, probability of a new item, share of the first of three topics, by block."""


def stream(blocks: int, law: Law, seed: int) -> list[Measured]:
    dice = random.Random(seed)
    made = []
    for n in range(blocks * BLOCK):
        loss, new, share = law(n // BLOCK)
        first = dice.betavariate(20 * share, 20 * (1 - share))
        topics = [Topic("a", first, []), Topic("b", (1 - first) / 2, []), Topic("c", (1 - first) / 2, [])]
        made.append(
            (
                Evaluation({"penchant": 0}, False, dice.random() < new, dice.gauss(loss, 2.0)),
                Interests("u", n, "m", topics),
            )
        )
    return made


def observed(measured: list[Measured], poll: int = 100, model: str = "m") -> list[tuple[int, Detection]]:
    """Return what is detected, with the number of the block."""
    drift, found = Drift(BLOCK), []
    for start in range(0, len(measured), poll):
        evaluations, interests = zip(*measured[start : start + poll], strict=True)
        # Interests are told at few of the engagements.
        found += [(start // BLOCK, one) for one in drift.observe(evaluations, interests[::4], model)]
    return found


def still(block: int) -> tuple[float, float, float]:
    return 5.0, 0.05, 0.4


def test_nothing_is_found_where_nothing_changes() -> None:
    assert [observed(stream(400, still, seed)) for seed in range(3)] == [[]] * 3


@pytest.mark.parametrize(
    ("signal", "after", "at_least"),
    [("log_loss", (6.0, 0.05, 0.4), 0.5), ("new_items", (5.0, 0.25, 0.4), 0.1), ("interests", (5.0, 0.05, 0.8), 0.05)],
)
def test_a_rise_that_stays_is_found_once(signal: str, after: tuple[float, float, float], at_least: float) -> None:
    for seed in range(3):
        found = observed(stream(300, lambda block: still(block) if block < 150 else after, seed))
        assert [one.signal for _, one in found] == [signal]
        block, one = found[0]
        assert 150 <= block < 180
        assert one.after - one.before > at_least
        assert one.n == 10 * (BLOCK // 4 if signal == "interests" else BLOCK)


def test_a_fall_is_no_drift_and_does_not_hide_the_rise_after_it() -> None:
    """A young model's loss falls; where it rises again, it may still be below what it once was."""

    def learning(block: int) -> tuple[float, float, float]:
        return (8.0 - min(block, 100) * 0.03 if block < 200 else 6.2), 0.05, 0.4

    for seed in range(3):
        found = observed(stream(300, learning, seed))
        assert [one.signal for _, one in found] == ["log_loss"]
        assert found[0][0] >= 200


def test_one_new_item_after_none_is_no_drift_and_many_are() -> None:
    def catalogue(block: int) -> tuple[float, float, float]:
        return 5.0, 0.0 if block < 100 else 0.004 if block < 200 else 0.2, 0.4

    for seed in range(3):
        found = observed(stream(300, catalogue, seed))
        assert [one.signal for _, one in found] == ["new_items"]
        assert 200 <= found[0][0] < 230


def test_polls_do_not_change_what_is_found() -> None:
    measured = stream(250, lambda block: still(block) if block < 150 else (6.0, 0.05, 0.4), 1)
    polls = [[one for _, one in observed(measured, poll)] for poll in (4, 100, 1000)]
    assert polls[0] == polls[1] == polls[2]
    assert polls[0]


def test_another_model_is_not_compared_with_the_one_before() -> None:
    before, after = stream(150, still, 1), stream(150, lambda block: (6.0, 0.05, 0.4), 2)
    for swapped in (True, False):
        drift, found = Drift(BLOCK), []
        for part, model in ((before, "m1"), (after, "m2" if swapped else "m1")):
            evaluations, interests = zip(*part, strict=True)
            found += drift.observe(evaluations, interests[::4], model)
        assert bool(found) is not swapped


def test_means_are_told_from_the_first_block_on() -> None:
    drift = Drift(BLOCK)
    assert drift.means() == {}
    evaluations, interests = zip(*stream(40, still, 1), strict=True)
    drift.observe(evaluations, interests[::4], "m")
    means = drift.means()
    assert means["log_loss"] == pytest.approx(sum(one.log_loss for one in evaluations[-10 * BLOCK :]) / 10 / BLOCK)
    assert means["new_items"] == pytest.approx(sum(one.new_item for one in evaluations[-10 * BLOCK :]) / 10 / BLOCK)
    assert 0 < means["interests"] < 0.2


# -- asking


def shifting(settings: Settings, muted: int = 0) -> tuple[TuneRequests, Metrics, list[TuneRequest]]:
    """Return what was asked for while the loss rose three times; at each transaction an hour goes by."""
    metrics = Metrics()
    requests, asked = TuneRequests(settings, metrics), []
    measured = stream(600, lambda block: (5.0 + block // 150, 0.05, 0.4), 1)
    for number, start in enumerate(range(0, len(measured), 100)):
        records = requests.records()
        for topic, key, value, _ in records:
            assert (topic, key) == ("a.tune-requests", b"a")
            asked.append(msgspec.json.decode(value or b"", type=TuneRequest))
        part = measured[start : start + 100]
        work = Work(evaluations=[one for one, _ in part], interests=[one for _, one in part[::4]], muted=muted)
        requests.committed(work, "m", number * HOUR_MS)
    return requests, metrics, asked


def settings_with(**more: object) -> Settings:
    return Settings.model_validate({"app_id": "a", "drift_evaluations": BLOCK, "tune_requests": True, **more})


def detections(metrics: Metrics) -> float:
    return sum(s.value for m in metrics.drift_detected.collect() for s in m.samples if s.name.endswith("_total"))


def test_each_detection_asks_once_unless_it_comes_too_soon() -> None:
    _, metrics, asked = shifting(settings_with())
    value = metrics.registry.get_sample_value
    assert len(asked) == detections(metrics) == value("penchant_tune_requests_total") == 3
    assert len({one.id for one in asked}) == 3
    assert {(one.signal, one.model) for one in asked} == {("log_loss", "m")}
    assert all(one.after > one.before for one in asked)
    assert (value("penchant_drift_detected_timestamp_seconds", {"signal": "log_loss"}) or 0) > 1e9
    assert value("penchant_drift_mean", {"signal": "log_loss"}) == pytest.approx(8.0, abs=0.5)
    # The second comes some 60 hours of stream time after the first, the third as long after the second.
    assert len(shifting(settings_with(tune_cooldown_seconds=80 * 3600))[2]) == 2
    assert len(shifting(settings_with(tune_cooldown_seconds=1000 * 3600))[2]) == 1


@pytest.mark.parametrize("muted", [0, 1])
def test_nothing_is_asked_for_in_silence_or_where_it_is_not_configured(muted: int) -> None:
    _, metrics, asked = shifting(settings_with(tune_requests=bool(muted)), muted)
    assert asked == []
    assert detections(metrics) == 3


def test_without_evaluations_to_average_nothing_is_looked_for() -> None:
    _, metrics, asked = shifting(settings_with(drift_evaluations=0))
    assert (detections(metrics), asked) == (0, [])


def test_an_aborted_transaction_asks_again_and_one_that_nobody_knows_of_never() -> None:
    requests = TuneRequests(settings_with(), Metrics())
    measured = stream(300, lambda block: (5.0 + block // 150, 0.05, 0.4), 1)
    evaluations = [one for one, _ in measured]
    requests.committed(Work(evaluations=evaluations), "m", 1)
    assert requests.records() == requests.records() != []
    requests.lost()
    assert requests.records() == []
