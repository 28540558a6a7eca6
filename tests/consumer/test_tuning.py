"""`penchant tune` from ratings to a promoted bundle, with the real MiniLM on a part of MovieLens."""

import dataclasses
import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from rich.console import Console
from typer.testing import CliRunner

from consumer.cli import app
from consumer.datasets import load_ml100k
from consumer.metrics import Metrics
from consumer.picture import drawn
from consumer.shipped import shipped_bundle
from consumer.tuning import Job, _decided, _folder, _key
from consumer.window import Source
from export.bundle import Bundle
from export.encoder import OnnxEncoder
from export.registry import Registry
from model.errors import Fatal, PenchantError
from model.gate import Compared, Decision
from model.training.adaptation import Method
from model.training.examples import Example, Past
from model.training.tuning import Tuning

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Threads that wait for each other would take the cores from the tests beside this."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LOCAL_WORLD_SIZE", str(os.cpu_count()))
        yield


@pytest.fixture(scope="module")
def ratings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the 250 films rated most often in the first 12,000 ratings, and these ratings."""
    items, events = load_ml100k()
    rated = [event for event in events[:12_000] if hasattr(event, "item")]
    often = {name for name, _ in Counter(event.item for event in rated).most_common(250)}
    folder = tmp_path_factory.mktemp("ratings")
    for name, rows in (
        ("items", [item for item in items if item.item in often]),
        ("events", [event for event in rated if event.item in often]),
    ):
        (folder / f"{name}.jsonl").write_bytes(b"\n".join(map(msgspec.json.encode, rows)))
    return folder


def tuned(ratings: Path, folder: Path, *arguments: str) -> tuple[int, dict[str, Any], str]:
    """Run the command, and return its status, its report and what it said."""
    done = CliRunner().invoke(
        app,
        ["tune", "--from-dataset", str(ratings), "--work", str(folder / "work"), "--json", str(folder / "report.json"),
         *arguments],
    )  # fmt: skip
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.exit_code, json.loads((folder / "report.json").read_text()), done.stdout


@pytest.fixture(scope="module")
def first(ratings: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Bundle, str]:
    folder = tmp_path_factory.mktemp("first")
    status, report, said = tuned(ratings, folder)
    assert status == (0 if report["decision"]["promote"] else 3)
    return report, Bundle.open(next((folder / "work").glob("*/bundle"))), said


def test_the_report_and_the_bundle_agree(first: tuple[dict[str, Any], Bundle, str]) -> None:
    report, bundle, said = first
    assert bundle.manifest.tuning == report
    assert bundle.manifest.dim == 2 * 384
    assert bundle.manifest.version in said
    assert {"seconds", "decision", "warm", "held_out_items", "new_items", "blend", "parity"} <= report.keys()
    assert report["parity"]["max_abs_diff"] < 1e-5
    assert report["blend"]["all"]["n"] > report["blend"]["unseen"]["n"] > 0
    assert report["training"]["losses"][-1] < report["training"]["losses"][0]
    kept = (bundle.path.parent / "examples.msgpack").read_bytes()
    assert hashlib.sha256(kept).hexdigest() == report["training"]["examples_sha256"]
    assert bundle.items() is not None
    for ages in report["by_age"].values():
        assert sum(one["n"] for one in ages.values()) == report["blend"]["all"]["n"]


def test_serve_tells_what_the_gate_found(first: tuple[dict[str, Any], Bundle, str]) -> None:
    report, bundle, _ = first
    metrics = Metrics()
    metrics.serves(OnnxEncoder(bundle))
    for model in ("before", "after"):
        labels = {"slice": "unseen", "model": model}
        told = metrics.registry.get_sample_value("penchant_model_gate_ndcg_at_10", labels)
        assert told == report["blend"]["unseen"][model]
    metrics.serves(OnnxEncoder(Bundle.open(shipped_bundle(Console(stderr=True)))))
    assert metrics.registry.get_sample_value("penchant_model_gate_ndcg_at_10", labels) is None


def test_text_alone_foretells_warm_items_better(first: tuple[dict[str, Any], Bundle, str]) -> None:
    """What was learnt from the first 70% shows in the rest, and the interval says that it is no luck."""
    warm = first[0]["warm"]
    assert warm["after"] > 1.1 * warm["before"]
    assert warm["ci95"][0] > 0


def test_without_a_gain_in_text_alone_nothing_is_promoted_but_by_force() -> None:
    none, some = (Compared(9, 9, 0.1, 0.1 + gain, 0.1, gain, [0.0, 0.1], 0.1) for gain in (0.0, 0.01))
    yes = Decision(True, [])
    assert _decided(yes, some, False) == yes
    assert _decided(yes, some, True) == yes
    said = _decided(yes, none, False)
    assert not said.promote
    assert "nothing was learnt" in said.reasons[0]
    assert _decided(yes, none, True) == msgspec.structs.replace(said, forced=True)
    assert _decided(Decision(False, ["all"]), none, False).reasons[1:] == ["all"]


def test_what_the_stock_model_says_stays_as_it_was(first: tuple[dict[str, Any], Bundle, str]) -> None:
    bundle = first[1]
    texts = ["a quiet western", "帮助文件在哪里", "an island, 1943"]
    stock = OnnxEncoder(Bundle.open(shipped_bundle(Console(stderr=True)))).encode(texts)
    tuned_part = OnnxEncoder(bundle).encode(texts)[:, :384]
    np.testing.assert_allclose(tuned_part, 0.5**0.5 * stock, atol=1e-5)


def test_the_same_command_gives_the_same_weights(
    ratings: Path, tmp_path: Path, first: tuple[dict[str, Any], Bundle, str]
) -> None:
    """Equal versions are equal bytes of every file; forced, it is published, promoted, and the force is recorded."""
    picture = tmp_path / "by-age.svg"
    status, report, said = tuned(
        ratings, tmp_path, "--registry", str(tmp_path / "registry"), "--force", "--picture", str(picture)
    )
    assert picture.read_text() == drawn(report["by_age"])
    version = first[1].manifest.version
    registry = Registry.open(str(tmp_path / "registry"))
    current = registry.current()
    assert status == 0
    assert current is not None
    assert current.version == version
    assert f"{version} is current" in said
    assert report["decision"]["forced"] == (not report["decision"]["promote"])
    assert ("FORCED" in current.note) == report["decision"]["forced"]
    assert registry.manifest(version).tuning == report


def test_a_decision_that_was_published_is_not_replaced(
    ratings: Path, first: tuple[dict[str, Any], Bundle, str], tmp_path: Path
) -> None:
    registry = Registry.open(str(tmp_path / "registry"))
    registry.publish(first[1].path)
    shipped = str(shipped_bundle(Console(stderr=True)))
    with pytest.raises(PenchantError, match="with an earlier decision"):
        tuned(ratings, tmp_path, "--bundle", shipped, "--force", "--registry", str(tmp_path / "registry"))
    assert registry.current() is None


def test_what_serves_is_never_written_over(
    ratings: Path, first: tuple[dict[str, Any], Bundle, str], tmp_path: Path
) -> None:
    path = first[1].path
    job = Job(Source([], [], {}), Path("model"), first[1], Tuning(), path.parent.parent)
    with pytest.raises(Fatal, match="holds the model that serves"), _folder(job, path.parent.name):
        pass
    other = dataclasses.replace(job, work=tmp_path)
    with _folder(other, "one"), pytest.raises(Fatal, match="another run is at it"), _folder(other, "one"):
        pass
    Bundle.open(path)


def test_a_run_goes_on_only_with_checkpoints_of_what_it_was_asked_for(
    first: tuple[dict[str, Any], Bundle, str],
) -> None:
    shipped = Bundle.open(shipped_bundle(Console(stderr=True)))
    job = Job(Source([], [], {}), Path("model"), shipped, Tuning(), Path("work"))
    tuning, vectors, example = job.tuning, np.ones((2, 3), np.float32), Example(1, "a", [Past(item="b")], [], [])
    keys = [
        _key(dataclasses.replace(job, **changed), said, replayed, stock)
        for changed, said, replayed, stock in (
            ({}, b"examples", [], vectors),
            ({"tuning": dataclasses.replace(tuning, epochs=3)}, b"examples", [], vectors),
            ({"tuning": dataclasses.replace(tuning, mlm_epochs=3)}, b"examples", [], vectors),
            ({"tuning": dataclasses.replace(tuning, seed=3)}, b"examples", [], vectors),
            ({"tuning": dataclasses.replace(tuning, method=Method.parse("last-2"))}, b"examples", [], vectors),
            ({"hold_out": 0.2}, b"examples", [], vectors),
            ({"held_items": 0.2}, b"examples", [], vectors),
            ({}, b"others", [], vectors),
            ({}, b"examples", [example], vectors),
            ({}, b"examples", [], 2 * vectors),
        )
    ]
    assert len(set(keys)) == len(keys)
    assert _key(dataclasses.replace(job, work=Path("other")), b"examples", [], vectors) == keys[0]


def test_layers_that_there_are_not_are_said(ratings: Path, tmp_path: Path) -> None:
    with pytest.raises(PenchantError, match="the model has 6 layers"):
        tuned(ratings, tmp_path, "--method", "last-7")


def test_examples_of_an_earlier_run_are_trained_on_again(
    ratings: Path, first: tuple[dict[str, Any], Bundle, str], tmp_path: Path
) -> None:
    """What is older than this window is added up to the share; what the window holds, too, is not taken twice."""
    work, rows = first[1].path.parent.parent, (ratings / "events.jsonl").read_bytes().splitlines()
    later = tmp_path / "later"
    later.mkdir()
    (later / "items.jsonl").write_bytes((ratings / "items.jsonl").read_bytes())
    (later / "events.jsonl").write_bytes(b"\n".join(rows[len(rows) // 2 :]))
    _, alone, _ = tuned(later, tmp_path)
    status, report, _ = tuned(later, tmp_path, "--replay", str(work), "--replay-share", "0.25")
    assert status in (0, 3)
    training = report["training"]
    assert training["replay"] == {
        "share": 0.25, "taken": training["replay"]["taken"],
        "files": [{
            "name": str((first[1].path.parent / "examples.msgpack").relative_to(work)),
            "sha256": first[0]["training"]["examples_sha256"], "examples": training["replay"]["files"][0]["examples"],
        }],
    }  # fmt: skip
    own = alone["training"]["examples"]
    assert training["examples"] == own + training["replay"]["taken"]
    assert training["replay"]["taken"] / training["examples"] == pytest.approx(0.25, abs=0.01)
    assert training["losses"] != alone["training"]["losses"]
    assert training["examples_sha256"] == alone["training"]["examples_sha256"]
    assert alone["training"]["replay"] == {"share": 0.2, "taken": 0, "files": []}


def test_a_picture_of_another_kind_is_refused_before_any_work(ratings: Path, tmp_path: Path) -> None:
    with pytest.raises(PenchantError, match="the picture is an SVG"):
        tuned(ratings, tmp_path, "--picture", str(tmp_path / "by-age.png"))
    assert not (tmp_path / "work").exists()


def test_too_little_is_refused_and_nothing_is_left(ratings: Path, tmp_path: Path) -> None:
    few = tmp_path / "few"
    few.mkdir()
    (few / "items.jsonl").write_bytes((ratings / "items.jsonl").read_bytes())
    (few / "events.jsonl").write_bytes(b"\n".join((ratings / "events.jsonl").read_bytes().splitlines()[:60]))
    with pytest.raises(PenchantError, match="at least 100 are needed"):
        tuned(few, tmp_path)
    assert not list((tmp_path / "work").glob("*/bundle"))


def test_masked_words_first_is_in_the_report(ratings: Path, tmp_path: Path) -> None:
    _, report, said = tuned(ratings, tmp_path, "--mlm-epochs", "1")
    (loss,) = report["training"]["mlm_losses"]
    assert 0 < loss < 12
    assert report["training"]["settings"]["mlm_epochs"] == 1
    assert report["training"]["trainable_share"] == 1
    assert not list((tmp_path / "work").glob("*/checkpoints/**/checkpoint-*"))
    assert "bundle" in said
