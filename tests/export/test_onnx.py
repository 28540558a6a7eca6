"""Export: equal to the model, for every kind of BERT, and clear about what is none."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from consumer.cli import app
from consumer.models import items_texts
from export.bundle import Bundle
from export.encoder import OnnxEncoder
from export.sentences import PARITY
from model.errors import BadBundle
from model.taxonomy import Taxonomy

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")


def test_parity_with_transformers(minilm_dir: Path, encoder: OnnxEncoder) -> None:
    model = transformers.AutoModel.from_pretrained(minilm_dir).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(minilm_dir)
    with torch.inference_mode():
        batch = tokenizer(list(PARITY), truncation=True, max_length=256, padding=True, return_tensors="pt")
        mask = batch["attention_mask"].unsqueeze(-1)
        pooled = (model(**batch).last_hidden_state * mask).sum(1) / mask.sum(1)
        expected = torch.nn.functional.normalize(pooled).numpy()
    assert np.abs(encoder.encode(PARITY) - expected).max() <= 1e-4


@pytest.mark.parametrize("kind", ["Bert", "Roberta"])
def test_tiny_random_model(kind: str, minilm_dir: Path, tmp_path: Path) -> None:
    from export.onnx import export_model

    tokenizer: Any = transformers.AutoTokenizer.from_pretrained(minilm_dir)
    config = getattr(transformers, f"{kind}Config")(
        vocab_size=len(tokenizer), hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64,
        max_position_embeddings=66, pad_token_id=tokenizer.pad_token_id, type_vocab_size=2,
    )  # fmt: skip
    getattr(transformers, f"{kind}Model")(config).save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    told: list[tuple[int, int]] = []
    texts = [f"item {number}" for number in range(300)]
    bundle = export_model(tmp_path / "model", tmp_path / "out", texts, lambda done, of: told.append((done, of)))
    assert bundle.manifest.dim == 32
    assert bundle.manifest.items == 300
    assert told == [(256, 300), (300, 300)]
    items = bundle.items()
    assert items is not None
    found = items.find([*texts, "item 300"])
    assert list(found) == texts
    expected = OnnxEncoder(bundle, "cpu").encode(texts)
    np.testing.assert_allclose(np.stack([found[text] for text in texts]), expected, atol=1e-5)
    assert bundle.manifest.max_length == (66 if kind == "Bert" else 65)
    assert OnnxEncoder(bundle, "cpu").encode(["one", "two"]).shape == (2, 32)


def test_the_command_embeds_a_catalogue(minilm_dir: Path, tmp_path: Path) -> None:
    model, out = tmp_path / "model", tmp_path / "out"
    transformers.AutoTokenizer.from_pretrained(minilm_dir).save_pretrained(model)
    transformers.BertModel(transformers.BertConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=2,
                                                   intermediate_size=8)).save_pretrained(model)  # fmt: skip
    done = CliRunner().invoke(app, ["export", str(model), str(out), "--items", "zh"])
    assert done.exit_code == 0, done.output
    texts = [*items_texts("zh"), *(text for topic in Taxonomy.read() for text in topic.descriptions)]
    items = Bundle.open(out).items()
    assert items is not None
    assert list(items.find(texts)) == list(dict.fromkeys(texts))


def test_not_a_model(tmp_path: Path) -> None:
    from export.onnx import export_model

    with pytest.raises(BadBundle, match=r"no config\.json"):
        export_model(tmp_path, tmp_path / "out")
    (tmp_path / "config.json").write_text('{"model_type": "gpt2"}')
    with pytest.raises(BadBundle, match="'gpt2' model"):
        export_model(tmp_path, tmp_path / "out")
    assert not (tmp_path / "out").exists()
