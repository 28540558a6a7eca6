"""The demo from end to end: a real broker, real processes, the figures, and nothing left behind."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from consumer.demo_report import quality

KEYS = {"events", "lists", "lists_per_second", "latency_ms", "hr_at_10", "ndcg_at_10", "popularity", "dead_letters",
        "peak_rss_mb", "provider"}  # fmt: skip


def descendants_by_mark(mark: str) -> list[str]:
    """Return the command lines of living processes that name `mark`, which every child of a demo does."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            line = (path / "cmdline").read_bytes() + (path / "environ").read_bytes()
        except OSError:
            continue
        if mark.encode() in line and int(path.name) != os.getpid():
            found.append((path / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace"))
    return found


def command(bootstrap: str, folder: Path, *more: str) -> list[str]:
    return [sys.executable, "-m", "consumer.cli", "demo", "--bootstrap", bootstrap, "--dir", str(folder), *more]


@pytest.mark.timeout(300)
def test_two_thousand_events_from_end_to_end(bootstrap: str, tmp_path: Path) -> None:
    figures = tmp_path / "figures" / "demo.json"
    mark = f"mark-{tmp_path.name}-{os.getpid()}"
    done = subprocess.run(
        command(bootstrap, tmp_path / "run", "--events", "2000", "--json", str(figures)),
        capture_output=True,
        text=True,
        check=False,
        timeout=280,
        env=os.environ | {"DEMO_MARK": mark},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(figures.read_text())
    assert set(found) == KEYS
    assert set(found["latency_ms"]) == {"p50", "p99"}
    assert set(found["popularity"]) == {"hr_at_10", "ndcg_at_10"}
    assert found["events"] == found["lists"] == 2000
    assert found["dead_letters"] == 0
    assert found["lists_per_second"] > 0
    assert 0 < found["latency_ms"]["p50"] <= found["latency_ms"]["p99"]
    assert 0 < found["ndcg_at_10"] < found["hr_at_10"] < 1
    assert found["peak_rss_mb"] > 50 or sys.platform != "linux"
    assert found["provider"].endswith("ExecutionProvider")
    for words in ("interests moved", "recommended now", "HR@10", "popularity", "flat out"):
        assert words in done.stdout
    assert descendants_by_mark(mark) == []


@pytest.mark.timeout(300)
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_demo_leaves_no_child(bootstrap: str, tmp_path: Path, how: signal.Signals) -> None:
    mark = f"mark-{tmp_path.name}-{os.getpid()}"
    demo = subprocess.Popen(
        command(bootstrap, tmp_path / "run", "--events", "50000"),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | {"DEMO_MARK": mark, "PYTHONUNBUFFERED": "1"},
    )
    assert demo.stdout is not None
    with demo.stdout:
        while "flat out" not in (line := demo.stdout.readline()):
            assert line, "the demo ended before it could be interrupted"
        time.sleep(1)
        assert len(descendants_by_mark(mark)) >= 2
        demo.send_signal(how)
        rest = demo.stdout.read()
    assert demo.wait(30) == 130
    assert "Traceback" not in rest
    assert descendants_by_mark(mark) == []


def test_quality_is_read_from_counters() -> None:
    text = """# TYPE penchant_evaluated_total counter
penchant_evaluated_total{ranker="penchant"} 10.0
penchant_evaluated_total{ranker="popularity"} 10.0
# TYPE penchant_hits_total counter
penchant_hits_total{ranker="penchant"} 4.0
# TYPE penchant_ndcg_sum_total counter
penchant_ndcg_sum_total{ranker="penchant"} 2.5
"""
    assert quality(text, "penchant") == {"hr_at_10": 0.4, "ndcg_at_10": 0.25}
    assert quality(text, "popularity") == {"hr_at_10": 0.0, "ndcg_at_10": 0.0}
    assert quality("", "penchant") == {"hr_at_10": None, "ndcg_at_10": None}
