"""The three pages, and what is counted."""

import urllib.request

import pytest
from prometheus_client import CollectorRegistry

from consumer import http
from consumer.http import Health, Server, answer
from consumer.metrics import Metrics
from model.outcome import Evaluation


def test_pages_over_http() -> None:
    metrics = Metrics()
    metrics.recommendations.inc(3)
    with (
        Server("127.0.0.1", 0, metrics.registry, Health()) as server,
        urllib.request.urlopen(f"http://127.0.0.1:{server.port}/metrics") as page,
    ):
        assert b"penchant_recommendations_total 3.0" in page.read()


def test_health_is_the_heartbeat_and_ready_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    health, registry = Health(), CollectorRegistry()
    assert answer("/healthz", registry, health)[0] == 200
    assert answer("/readyz", registry, health)[::2] == (503, b"starting\n")
    health.say(True, "ready")
    assert answer("/readyz?x", registry, health)[0] == 200
    health.turn()
    assert answer("/healthz", registry, health)[0] == 200
    monkeypatch.setattr(http, "STUCK_SECONDS", 0.0)
    assert answer("/healthz", registry, health)[0] == 503
    assert answer("/", registry, health)[0] == 404


def test_evaluations_are_counted_by_ranker() -> None:
    metrics = Metrics()
    metrics.evaluation(Evaluation({"penchant": 0, "popularity": 10, "covisitation": -1}, False, False, 2.0))
    metrics.evaluation(Evaluation({"penchant": 1, "popularity": 3, "covisitation": 9}, False, False, 0.5))
    value = metrics.registry.get_sample_value
    assert value("penchant_evaluated_total") == 2
    assert value("penchant_log_loss_sum_total") == 2.5
    assert value("penchant_hits_total", {"ranker": "penchant"}) == 2
    assert value("penchant_hits_total", {"ranker": "covisitation"}) == 1
    assert value("penchant_ndcg_sum_total", {"ranker": "penchant"}) == pytest.approx(1 + 0.6309, abs=1e-4)
