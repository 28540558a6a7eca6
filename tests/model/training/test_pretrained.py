"""Loading a pretrained encoder: what is left over is no news, what is missing is; what is saved is loaded again."""

from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from safetensors.torch import load_file, save_file  # noqa: E402
from transformers import BertModel  # noqa: E402

from model.training.pretrained import load  # noqa: E402


def test_only_missing_weights_are_told(tiny: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    tiny.save(tmp_path)
    BertModel(tiny.config).save_pretrained(tmp_path)  # with a pooler, which is not used
    load(str(tmp_path))
    assert not caplog.records
    weights = load_file(tmp_path / "model.safetensors")
    del weights["encoder.layer.1.output.dense.weight"]
    save_file(weights, tmp_path / "model.safetensors", {"format": "pt"})
    load(str(tmp_path))
    assert "encoder.layer.1.output.dense.weight" in caplog.text


def test_what_is_saved_is_loaded_again(tiny: Any, tmp_path: Path) -> None:
    tiny.save(tmp_path)
    again = load(str(tmp_path))
    assert (again.pooling, again.max_length) == (tiny.pooling, tiny.max_length) == ("mean", 128)
    assert all(torch.equal(weight, again.body.state_dict()[name]) for name, weight in tiny.body.state_dict().items())
