"""`penchant models` from publishing to pruning, in a folder of its own."""

import json
from pathlib import Path

import msgspec
import pytest
from prometheus_client import generate_latest
from typer.testing import CliRunner

from consumer.cli import app
from consumer.metrics import Metrics
from consumer.models import items_texts
from model.errors import BadBundle, Fatal, PenchantError
from model.outcome import Evaluation
from tests.consumer.test_judging import answering
from tests.export.tiny import tiny_bundle


def said(*arguments: str, code: int = 0) -> list[str]:
    """Run `penchant models ...` and return the lines on stdout; raises what it raises."""
    done = CliRunner().invoke(app, ["models", *arguments])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == code
    return done.stdout.splitlines()


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PENCHANT_REGISTRY", str(tmp_path / "registry"))
    return tmp_path / "registry"


def test_a_model_s_life(registry: Path, tmp_path: Path) -> None:
    assert "penchant models publish BUNDLE" in said("list")[0]
    with pytest.raises(Fatal, match="no version is current"):
        said("show")
    old, new = tiny_bundle(tmp_path / "old", "01"), tiny_bundle(tmp_path / "new", "02", ["a", "b"])
    first, second = old.manifest.version, new.manifest.version
    assert f"penchant models promote {first}" in said("publish", str(old.path))[0]
    said("publish", str(new.path))
    assert [line[:14] for line in said("list")] == [f"  {second}", f"  {first}"]
    said("promote", first)
    said("promote", second, "--note", "trained\non October", "--expected", "1")
    with pytest.raises(PenchantError, match="there is pointer 2"):
        said("promote", first, "--expected", "1")
    assert [line[:14] for line in said("list")] == [f"* {second}", f"  {first}"]
    assert "2 texts along" in said("list")[0]
    shown = said("show")
    assert shown[0].split() == ["version", second]
    assert "file items.npy" in "\n".join(shown)
    assert shown[-1].startswith("pointer 2")
    assert shown[-1].endswith("promote  'trained\\non October'  (current)")
    assert said("rollback", "--expected", "2")[0].startswith(f"{first} is current again")
    assert [line.split()[1] for line in said("show", first) if line.startswith("pointer")] == ["1", "3"]
    assert said("verify") == [f"ok    {version}" for version in sorted((first, second))]
    assert said("prune", "--offline", "--keep", "1", "--used", second)[0].endswith(": nothing")
    said("publish", str(tiny_bundle(tmp_path / "newest", "03").path))
    assert said("prune", "--offline", "--keep", "1")[0].endswith(f": {second}")


def test_diff_prints_only_what_differs(registry: Path, tmp_path: Path) -> None:
    one, other = tiny_bundle(tmp_path / "one", "01"), tiny_bundle(tmp_path / "other", "02", ["a"])
    said("publish", str(one.path))
    said("publish", str(other.path))
    lines = said("diff", one.manifest.version, other.manifest.version)
    assert [line[:24].strip() for line in lines] == [
        "version", "exported", "texts along", "file encoder.onnx", "file items.hashes.npy", "file items.npy",
    ]  # fmt: skip
    assert lines[2].endswith("0 -> 1")
    assert lines[4].split()[2:4] == ["-", "->"]
    assert said("diff", one.manifest.version, one.manifest.version) == []


def test_a_part_that_was_learnt_is_said(registry: Path, tmp_path: Path) -> None:
    one = tiny_bundle(tmp_path / "one", "01")
    half = one.manifest.dim // 2
    manifest = msgspec.structs.replace(one.manifest, learnt=half)  # it is no part of the version
    (one.path / "manifest.json").write_bytes(msgspec.json.encode(manifest))
    said("publish", str(one.path))
    assert f"{manifest.dim}, {half} of them learnt" in "\n".join(said("show", manifest.version))


def test_verify_exits_1_and_list_says_what_cannot_be_read(registry: Path, tmp_path: Path) -> None:
    bundle = tiny_bundle(tmp_path / "bundle", "01")
    version = bundle.manifest.version
    said("publish", str(bundle.path))
    (registry / "models" / version / "manifest.json").write_bytes(b"{")
    assert said("list")[0].startswith(f"! {version}")
    (line,) = said("verify", code=1)
    assert line.startswith(f"FAIL  {version}")
    with pytest.raises(BadBundle, match="is not published"):
        said("show", "0123456789ab")


def test_the_option_wins_over_the_setting(registry: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert str(tmp_path / "other") in said("list", "--registry", str(tmp_path / "other"))[0]
    assert str(registry) in said("list")[0]
    monkeypatch.delenv("PENCHANT_REGISTRY")
    with pytest.raises(Fatal, match="no registry: give --registry"):
        said("list")


def test_items_of_a_file_or_a_folder_or_a_data_set(tmp_path: Path) -> None:
    path = tmp_path / "items.jsonl"
    path.write_text(json.dumps({"item": "m1", "title": "Toy Story", "tags": ["comedy"]}) + "\n")
    assert items_texts(str(path)) == items_texts(str(tmp_path)) == ["Toy Story. comedy"]
    assert len(items_texts("zh")) > 5
    with pytest.raises(PenchantError, match="no data set"):
        items_texts(str(tmp_path / "nowhere"))
    path.write_text("{}\n")
    with pytest.raises(PenchantError, match=r"items\.jsonl:1"):
        items_texts(str(path))


@pytest.mark.parametrize("act", [True, False])
def test_what_is_worse_is_taken_back_if_asked_for(registry: Path, tmp_path: Path, act: bool) -> None:
    bundles = [tiny_bundle(tmp_path / salt, salt) for salt in ("01", "02")]
    first, second = (bundle.manifest.version for bundle in bundles)
    for bundle in bundles:
        said("publish", str(bundle.path))
    said("promote", first)
    said("promote", second)
    metrics = Metrics()
    metrics.model.info({"version": second, "provider": "x", "dim": "4"})
    worse = [Evaluation({"penchant": -1}, False, False, 0.0, {"before": 0}) for _ in range(50)]
    metrics.compared(worse, second, {"before": first})
    with answering(generate_latest(metrics.registry)) as url:
        lines = said("judge", "--metrics", url, *(["--act"] if act else []), code=1)
    assert "worse" in lines
    assert (f"rolled back to {first}" in lines) == act
    assert said("list")[1 if act else 0].startswith(f"* {first if act else second}")


def test_what_is_not_worse_stays(registry: Path, tmp_path: Path) -> None:
    metrics = Metrics()
    metrics.model.info({"version": "b", "provider": "x", "dim": "4"})
    metrics.compared([Evaluation({"penchant": 0}, False, False, 0.0, {"before": 0})] * 50, "b", {"before": "a"})
    with answering(generate_latest(metrics.registry)) as url:
        assert "no worse" in (lines := said("judge", "--metrics", url, "--act"))
        assert not any("lists" in line for line in lines)
    metrics.overlap([("before", 0.5), ("before", 1.0), ("gone", 0.0)], "b", {"before": "a"})
    with answering(generate_latest(metrics.registry)) as url:
        assert "of 2 lists, 75% of the items would be the same" in said("judge", "--metrics", url)
    with pytest.raises(Fatal, match="give --metrics"):
        said("judge")


def test_lists_alone_are_nothing_to_judge_by() -> None:
    metrics = Metrics()
    metrics.model.info({"version": "b", "provider": "x", "dim": "4"})
    metrics.overlap([("apprentice", 1.0)], "b", {"apprentice": "a"})
    with answering(generate_latest(metrics.registry)) as url:
        for role, needed in (("before", "a swap"), ("apprentice", "the settings apprentice")):
            with pytest.raises(Fatal, match=f"nothing that users chose .* '{role}' yet: it takes {needed}"):
                said("judge", "--metrics", url, "--role", role)
        with pytest.raises(Fatal, match="no role 'teacher': choose before or apprentice"):
            said("judge", "--metrics", url, "--role", "teacher")
