"""`serve` follows a registry: what is promoted goes live, what cannot serve is refused, a rollback goes back."""

import json
import shutil
from pathlib import Path

import msgspec
import pytest

from consumer.judging import from_instances, pairs_of, verdict
from consumer.settings import Settings
from consumer.used import used_versions
from export import catalogue
from export.bundle import Bundle, Manifest, write_bundle
from export.encoder import OnnxEncoder
from export.registry import Registry
from tests.broker.process import Serve, wait_for
from tests.broker.test_away import ids
from tests.broker.test_serve import events, lists, prepare, read, send

ITEM_TEXTS = [f"{['space alien robot ship', 'love wedding kiss couple'][n % 2]} part{n}" for n in range(40)]


def again(bundle: Bundle, out: Path) -> Bundle:
    """The same weights, and vectors of the test's items with them: another version."""
    encoder = OnnxEncoder(bundle)

    def fill(folder: Path) -> Manifest:
        for name in bundle.manifest.sha256:
            shutil.copy(bundle.path / name, folder / name)
        count = catalogue.write(folder, ITEM_TEXTS, encoder.encode, lambda done, of: None)
        return msgspec.structs.replace(bundle.manifest, items=count)

    return write_bundle(out, fill)


def models(settings: Settings) -> list[str]:
    return [json.loads(value or b"")["model"] for _, value in read(settings, settings.recommendations_topic)]


@pytest.mark.timeout(180)
def test_it_follows(bootstrap: str, shipped: Path, tmp_path: Path) -> None:
    registry = Registry.open(str(tmp_path / "registry"))
    first = registry.publish(shipped)
    registry.promote(first, None)
    second = registry.publish(again(Bundle.open(shipped), tmp_path / "again").path)
    changed = {"registry": registry.url, "follow_seconds": 0.2, "probation_share": 1.0}
    settings, sent = prepare(bootstrap).model_copy(update=changed), events(120)
    with Serve(settings, shipped, tmp_path) as serve:
        send(settings, settings.events_topic, sent[:30])
        wait_for(lambda: len(lists(settings)) == 30, "no lists")
        texts = serve.value("penchant_encoder_texts_total")

        registry.promote(second, 1)
        wait_for(lambda: "swapped" in serve.said("info"), "no swap")
        send(settings, settings.events_topic, sent[30:60])
        wait_for(lambda: len(lists(settings)) == 60, "no lists after the swap")
        assert serve.is_ready()
        assert serve.value("penchant_paired_evaluated_total") > 0
        (pairs,) = pairs_of(from_instances([f"http://127.0.0.1:{serve.port}/metrics"]), "before")
        assert (pairs.serving, pairs.rival) == (second, first)
        assert pairs.ours == pairs.theirs > 0
        assert verdict(pairs, 0.02).decision == "no worse"  # the same weights
        assert serve.value("penchant_encoder_texts_total") - texts < 40  # items came with the bundle

        # Damaged behind the registry's back, and made current.
        third = "0" * 12
        shutil.copytree(tmp_path / "registry" / "models" / second, tmp_path / "registry" / "models" / third)
        pointer = tmp_path / "registry" / "current" / "00000003.json"
        said = json.loads((pointer.parent / "00000002.json").read_text())
        pointer.write_text(json.dumps(said | {"number": 3, "version": third}))
        wait_for(lambda: serve.value("penchant_models_refused_total") == 1, "nothing is refused")
        send(settings, settings.events_topic, sent[60:90])
        wait_for(lambda: len(lists(settings)) == 90, "the old one does not serve on")
        assert any("refused" in line for line in serve.said("error"))

        assert registry.promote(first, 3).number == 4
        wait_for(lambda: serve.said("info").count("swapped") == 2, "it does not go back")
        send(settings, settings.events_topic, sent[90:])
        wait_for(lambda: len(lists(settings)) == 120, "no lists after going back")
        assert serve.end() == 0
    assert used_versions(settings) == {first}
    assert [event for event, _ in lists(settings)] == ids(sent)
    assert models(settings) == [first] * 30 + [second] * 60 + [first] * 30


def test_a_registry_without_a_current_model(bootstrap: str, shipped: Path, tmp_path: Path) -> None:
    settings = prepare(bootstrap).model_copy(update={"registry": str(tmp_path / "empty")})
    with Serve(settings, shipped, tmp_path) as serve:
        assert serve.process.wait(60) == 1
        assert "penchant models" in serve.said("error")[0]


@pytest.mark.timeout(180)
def test_a_registry_that_comes_later(bootstrap: str, shipped: Path, tmp_path: Path) -> None:
    """Kubernetes would end a process that does not say that it lives, again and again."""
    there = Registry.open(str(tmp_path / "there"))
    there.promote(there.publish(shipped), None)
    (tmp_path / "registry").touch()  # a folder that cannot be read
    changed = {"registry": str(tmp_path / "registry"), "follow_seconds": 0.2}
    settings, sent = prepare(bootstrap).model_copy(update=changed), events(30)
    with Serve(settings, shipped, tmp_path) as serve:
        waits(serve)
        (tmp_path / "registry").unlink()
        (tmp_path / "there").rename(tmp_path / "registry")
        send(settings, settings.events_topic, sent)
        wait_for(serve.is_ready, "it does not begin")
        wait_for(lambda: len(lists(settings)) == 30, "no lists")
        assert serve.said("warning") == ["the registry is away; waiting"]
        assert serve.end() == 0


@pytest.mark.timeout(120)
def test_a_bucket_that_does_not_answer(monkeypatch: pytest.MonkeyPatch, shipped: Path, tmp_path: Path) -> None:
    said = {"ENDPOINT_URL_S3": "http://127.0.0.1:1", "ACCESS_KEY_ID": "x", "SECRET_ACCESS_KEY": "x"}
    for name, value in (said | {"DEFAULT_REGION": "us-east-1"}).items():
        monkeypatch.setenv(f"AWS_{name}", value)
    settings = Settings(registry="s3://bucket/models", bootstrap="127.0.0.1:1", follow_seconds=0.2)
    with Serve(settings, shipped, tmp_path) as serve:
        waits(serve)
        assert serve.end() == 0  # and does not have to be killed


def waits(serve: Serve) -> None:
    """Hold what a process that waits for its registry says of itself against what it should."""
    name = "penchant_loop_heartbeat_timestamp_seconds"
    wait_for(lambda: serve.get("/readyz") == (503, "the registry is away\n"), "it does not say why it is not ready")
    assert serve.get("/healthz")[0] == 200
    seen = serve.value(name)
    assert seen > 0
    wait_for(lambda: serve.value(name) > seen, "no heartbeat")
    assert serve.get("/metrics")[0] == 200
