"""Replay: what earlier runs kept is held to the rules of this one."""

from pathlib import Path

import msgspec
import pytest

from model.errors import Fatal
from model.training.examples import Example, Examples, Past, refuse_leaks
from model.training.replay import FILE, Kept, drawn, read


def example(at_ms: int, item: str = "a", past: str = "b") -> Example:
    return Example(at_ms, item, [Past(item=past), Past(item="c")], ["b", "c"], ["d"])


WINDOW = [example(n) for n in range(100, 160)]
OLD = [example(n) for n in range(40)]


def kept(*examples: Example) -> Kept:
    return Kept("one", "hash", list(examples))


@pytest.mark.parametrize(("share", "count"), [(0.25, 20), (0.1, 7), (0.9, 40)])
def test_they_are_the_share_that_was_asked_for_or_all_there_are(share: float, count: int) -> None:
    found = drawn([kept(*OLD)], 60, share, 100, frozenset(), 0)
    assert len(found) == count
    assert len({one.at_ms for one in found}) == count
    assert found == drawn([kept(*OLD)], 60, share, 100, frozenset(), 0)
    if count < len(OLD):
        assert found != drawn([kept(*OLD)], 60, share, 100, frozenset(), 1)


def test_what_is_held_out_now_or_in_the_window_is_not_brought_back() -> None:
    planted = [example(100), example(41, item="held"), example(42, past="held")]
    found = drawn([kept(*OLD, *planted)], 60, 0.9, 100, frozenset({"held"}), 0)
    assert [one.at_ms for one in found] == [*range(40), 42]
    assert found[-1].past == [Past(item="c")]
    refuse_leaks(found, 100, frozenset({"held"}))


def test_a_choice_counts_once_however_many_runs_kept_it() -> None:
    again = [example(one.at_ms, past="e") for one in OLD]  # another run's window began later: another past
    assert drawn([kept(*OLD), kept(*again)], 1000, 0.9, 100, frozenset(), 0) == OLD


def test_a_work_folder_or_a_file_is_read(tmp_path: Path) -> None:
    for name, examples in (("x", OLD), ("y", WINDOW)):
        (tmp_path / name).mkdir()
        (tmp_path / name / FILE).write_bytes(Examples({}, examples).encoded())
    both = read(tmp_path)
    assert [one.name for one in both] == ["x/examples.msgpack", "y/examples.msgpack"]
    assert [one.examples for one in both] == [OLD, WINDOW]
    assert read(tmp_path / "y" / FILE) == both[1:]
    assert both[0].sha256 != both[1].sha256


def test_what_is_no_run_is_said(tmp_path: Path) -> None:
    with pytest.raises(Fatal, match="no examples of an earlier run"):
        read(tmp_path)
    for content in (b"no msgpack", msgspec.msgpack.encode({"texts": 3})):
        (tmp_path / FILE).write_bytes(content)
        with pytest.raises(Fatal, match="not what a run keeps"):
            read(tmp_path)
