"""A run that was cut short goes on from the last checkpoint that is whole."""

from pathlib import Path

import pytest

pytest.importorskip("torch")

from transformers.trainer_callback import TrainerState

from model.training.running import clear_checkpoints, whole_checkpoint


def test_the_last_whole_checkpoint_is_gone_on_from(tmp_path: Path) -> None:
    assert whole_checkpoint(tmp_path) is None
    for step in (90, 100, 110, 120):
        (tmp_path / f"checkpoint-{step}").mkdir()
        if step < 120:  # killed before it wrote that
            TrainerState(global_step=step).save_to_json(str(tmp_path / f"checkpoint-{step}" / "trainer_state.json"))
    state = tmp_path / "checkpoint-110" / "trainer_state.json"
    state.write_bytes(state.read_bytes()[:50])  # killed while it did
    assert whole_checkpoint(tmp_path) == str(tmp_path / "checkpoint-100")
    clear_checkpoints(tmp_path)
    assert list(tmp_path.iterdir()) == []
