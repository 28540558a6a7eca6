"""Counters of instances become a verdict."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from urllib.parse import parse_qs, urlsplit

import pytest
from prometheus_client import generate_latest

from consumer.judging import from_instances, from_prometheus, pairs_of, verdict
from consumer.metrics import Metrics
from model.errors import DependencyAway
from model.outcome import Evaluation


@contextmanager
def answering(body: bytes | Callable[[str], bytes]) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(body if isinstance(body, bytes) else body(self.path))

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


def instance(better: int, equal: int, serving: str = "b") -> bytes:
    """Metrics of an instance where the one that serves hit at the top `better` times and the one before missed."""
    metrics = Metrics()
    metrics.model.info({"version": serving, "provider": "x", "dim": "1"})
    made = [Evaluation({"penchant": 0}, False, False, 0.0, {"before": -1}) for _ in range(better)]
    made += [Evaluation({"penchant": 0}, False, False, 0.0, {"before": 0}) for _ in range(equal)]
    assert metrics.compared(made, "b", {"before": "a"}) == len(made)
    return generate_latest(metrics.registry)


def test_instances_add_up() -> None:
    with answering(instance(30, 70)) as one, answering(instance(10, 90)) as other:
        (pairs,) = pairs_of(from_instances([one, other]), "before")
    assert (pairs.events, pairs.ours, pairs.theirs, pairs.squares) == (200, 200.0, 160.0, 40.0)
    said = verdict(pairs, 0.02)
    assert said.mean == pytest.approx(0.2)
    assert said.low == pytest.approx(0.2 - 1.96 * (0.2 * 0.8 / 200) ** 0.5)
    assert said.decision == "better"


def test_a_pair_of_which_none_serves_any_more_is_left_out() -> None:
    with answering(instance(30, 70, serving="c")) as one:
        assert pairs_of(from_instances([one]), "before") == []


def test_the_one_before_and_an_apprentice_are_told_apart() -> None:
    metrics = Metrics()
    metrics.model.info({"version": "b", "provider": "x", "dim": "1"})
    both = [Evaluation({"penchant": 0}, False, False, 0.0, {"before": 0, "apprentice": -1})] * 9
    metrics.compared(both, "b", {"before": "a", "apprentice": "c"})
    with answering(generate_latest(metrics.registry)) as url:
        for role, rival, theirs in (("before", "a", 9), ("apprentice", "c", 0)):
            (pairs,) = pairs_of(from_instances([url]), role)
            assert (pairs.role, pairs.rival, pairs.events, pairs.theirs) == (role, rival, 9, theirs)


def test_lists_alone_say_not_who_is_better() -> None:
    metrics = Metrics()
    metrics.model.info({"version": "b", "provider": "x", "dim": "1"})
    metrics.overlap([("apprentice", 0.5)], "b", {"apprentice": "a"})
    with answering(generate_latest(metrics.registry)) as url:
        assert pairs_of(from_instances([url]), "apprentice") == []


@pytest.mark.parametrize(
    "body", [b"<html>hi</html>", b"\xff\xfe", b"[]", b'{"status":"error"}', b'{"data":{"result":[1]}}']
)
def test_what_is_neither_an_instance_nor_a_prometheus_is_named(body: bytes) -> None:
    with answering(body) as url:
        with pytest.raises(DependencyAway, match=url):
            from_instances([url])
        with pytest.raises(DependencyAway, match=url):
            from_prometheus(url)


def test_prometheus_says_the_same() -> None:
    pair = {"role": "before", "serving": "b", "rival": "a"}
    series: dict[str, list[tuple[dict[str, str], float]]] = {
        "penchant_paired_evaluated_total": [(pair, 3), (pair | {"instance": "other"}, 1)],
        "penchant_paired_ndcg_sum_total": [(pair | {"whose": "serving"}, 3), (pair | {"whose": "rival"}, 1)],
        "penchant_paired_squares_total": [(pair, 2)],
        "penchant_paired_lists_total": [(pair, 4), (pair | {"instance": "other"}, 2)],
        "penchant_paired_overlap_sum_total": [(pair, 3.5)],
        "penchant_model_info": [({"version": "b"}, 1)],
    }

    def query(path: str) -> bytes:
        found = series[parse_qs(urlsplit(path).query)["query"][0]]
        result = [{"metric": labels, "value": [0, str(value)]} for labels, value in found]
        return json.dumps({"data": {"result": result}}).encode()

    with answering(query) as url:
        (pairs,) = pairs_of(from_prometheus(url), "before")
    assert (pairs.events, pairs.ours, pairs.theirs, pairs.squares) == (4, 3.0, 1.0, 2.0)
    assert (pairs.lists, pairs.overlap) == (6, 3.5)


def test_who_does_not_answer_is_one_line() -> None:
    with pytest.raises(DependencyAway, match="does not answer"):
        from_instances(["http://127.0.0.1:9/metrics"])
    with pytest.raises(DependencyAway, match="no address"):
        from_instances(["file:///etc/passwd"])
