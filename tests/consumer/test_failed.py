"""What failed while it served is not begun with again, until somebody promotes it again."""

from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple, cast

import pytest

from consumer.embedding import Model
from consumer.failed import Failed
from consumer.follower import Follower, begin
from consumer.http import Health
from consumer.metrics import Metrics
from consumer.serving import Serving
from consumer.settings import Settings
from export.registry import Registry
from model.errors import BadBundle
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
