"""What failed while it served is not begun with again, until somebody promotes it again."""

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple, cast

import pytest

from consumer.embedding import Model
from consumer.failed import Failed
from consumer.follower import Follower, begin, cache
from consumer.http import Health
from consumer.metrics import Metrics
from consumer.serving import Serving
from consumer.settings import Settings
from export.registry import Registry
from model.errors import BadBundle, DependencyAway
from tests.export.tiny import tiny_bundle


class World(NamedTuple):
    """A registry in a folder with two versions, of which the second is current."""

    registry: Registry
    first: str
    second: str
    settings: Settings
    failed: Failed

    def begin(self) -> str:
        """Return the version with which an instance starts."""
        return begin(self.registry, self.settings, Metrics(), Health(), Failed(self.failed._folder)).version


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setenv("PENCHANT_HOME", str(tmp_path / "home"))  # downloads that nobody needs are removed there
    monkeypatch.setattr(Model, "load", lambda bundle, _: SimpleNamespace(version=bundle.manifest.version))
    registry = Registry.open(str(tmp_path / "registry"))
    first, second = (registry.publish(tiny_bundle(tmp_path / salt, salt).path) for salt in ("01", "02"))
    registry.promote(first, None)
    registry.promote(second, 1)
    return World(registry, first, second, Settings(registry=registry.url), Failed(tmp_path / "marks"))


def files(registry: Registry) -> list[Path]:
    return sorted(Path(registry.url).rglob("*"))


def test_a_restart_goes_past_it(world: World) -> None:
    there = files(world.registry)
    assert world.begin() == world.second
    world.failed.pointer = 2
    world.failed.note(world.second, "no numbers")
    assert world.begin() == world.first
    assert files(world.registry) == there  # it is others', too
    world.registry.promote(world.second, 2)
    assert world.begin() == world.second


def test_where_all_have_failed_it_says_what_to_do(world: World) -> None:
    world.failed.pointer = 2
    for version in (world.first, world.second):
        world.failed.note(version, "no numbers")
    with pytest.raises(BadBundle, match=f"penchant models promote {world.second}"):
        world.begin()


def test_whoever_follows_goes_past_it_too(world: World) -> None:
    class Refuses:
        """Serves the first version; whatever is to be made ready is one too many."""

        prepared, model = 0, SimpleNamespace(version=world.first)

        def prepare(self, *_: object) -> None:
            self.prepared += 1
            raise BadBundle("once is enough")

    serving = Refuses()
    world.failed.pointer = 2
    world.failed.note(world.second, "no numbers")
    follower = Follower(world.settings, world.registry, cast(Serving, serving), Metrics(), world.failed)
    follower.look()
    assert serving.prepared == 0
    world.registry.promote(world.second, 2)
    follower.look()
    assert serving.prepared == 1


class Swaps:
    """Serves at once whatever is made ready."""

    def __init__(self, version: str) -> None:
        self.model = SimpleNamespace(version=version)
        self.prepared: list[str] = []

    def prepare(self, model: SimpleNamespace, _progress: object) -> None:
        self.model = model
        self.prepared.append(model.version)

    def teach(self, _apprentice: SimpleNamespace, _progress: object) -> None:
        """Let it rank."""


def test_an_instance_that_fell_back_tries_it_again_once_it_is_promoted_again(world: World) -> None:
    world.registry.rollback()
    serving = Swaps(world.first)
    follower = Follower(world.settings, world.registry, cast(Serving, serving), Metrics(), world.failed)
    follower.look()
    world.registry.promote(world.second, 3)
    follower.look()
    assert serving.prepared == [world.second]
    world.failed.note(world.second, "no numbers")
    serving.model = SimpleNamespace(version=world.first)
    follower.look()
    assert serving.prepared == [world.second]
    world.registry.promote(world.second, 4)
    follower.look()
    assert serving.prepared == [world.second] * 2
    world.registry.promote(world.second, 5)  # it serves: there is nothing to do
    follower.look()
    assert serving.prepared == [world.second] * 2


def test_what_could_not_be_loaded_for_now_is_tried_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    serving = Swaps(world.first)
    follower = Follower(world.settings, world.registry, cast(Serving, serving), Metrics(), world.failed)

    def away(version: str, cache: Path) -> None:
        raise DependencyAway("a store that is away")

    with monkeypatch.context() as patched:
        patched.setattr(world.registry, "fetch", away)
        follower.look()
    assert not serving.prepared
    follower.look()
    assert serving.prepared == [world.second]


def test_of_what_was_downloaded_stays_what_serves_what_did_before_and_the_apprentice(
    world: World, tmp_path: Path
) -> None:
    apprentice = world.registry.publish(tiny_bundle(tmp_path / "03", "03").path)
    settings = world.settings.model_copy(update={"apprentice": apprentice})
    kept = {world.first, world.second, apprentice}
    for version in (*kept, "0" * 12):
        (cache(settings) / version).mkdir(parents=True)
    (cache(settings) / "0.failed.json").touch()
    follower = Follower(settings, world.registry, cast(Serving, Swaps(world.first)), Metrics(), world.failed)
    follower.look()
    assert {path.name for path in cache(settings).iterdir()} == {*kept, "0.failed.json"}


def test_a_registry_that_was_made_anew_is_followed(world: World, tmp_path: Path) -> None:
    serving = Swaps(world.second)
    follower = Follower(world.settings, world.registry, cast(Serving, serving), Metrics(), world.failed)
    follower.look()
    shutil.rmtree(world.registry.url)
    follower.look()
    assert serving.model.version == world.second
    world.registry.publish(tmp_path / "01")
    world.registry.promote(world.first, None)
    follower.look()
    assert serving.model.version == world.first


def test_a_mark_that_is_none_hinders_nothing(world: World) -> None:
    world.failed.pointer = 2
    world.failed.note(world.second, "no numbers")
    (path,) = world.failed._folder.iterdir()
    path.write_bytes(b"\xff")
    assert world.begin() == world.second


def test_a_mark_that_cannot_be_written_is_no_failure(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    failed = Failed(tmp_path / "file")
    failed.note("0" * 12, "no numbers")
    assert failed.why("1" * 12, 1) == ""
