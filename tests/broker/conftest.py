"""A real broker for the tests: the one in PENCHANT_TEST_BOOTSTRAP, else an embedded one."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from rich.console import Console

from consumer.broker import EmbeddedBroker
from consumer.shipped import shipped_bundle

if TYPE_CHECKING:
    from collections.abc import Iterator


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every test of this folder `broker`, so that `-m 'not broker'` leaves them out."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.broker)


@pytest.fixture(scope="session")
def bootstrap(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a broker shared by the whole session; make topics with names of your own."""
    if given := os.environ.get("PENCHANT_TEST_BOOTSTRAP"):
        yield given
        return
    with EmbeddedBroker.start(tmp_path_factory.mktemp("broker")) as broker:
        yield broker.bootstrap


@pytest.fixture(scope="session")
def shipped() -> Path:
    """The bundle that comes with the demo, for those tests that start `serve` as the process that it is."""
    return shipped_bundle(Console(stderr=True))
