"""Opens ONNX Runtime sessions, on the GPU where there really is one."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import structlog

from export.bundle import ADVICE
from model.errors import BadBundle

_ERRORS_ONLY, _FATAL_ONLY = 3, 4

log = structlog.get_logger(__name__)


@contextmanager
def _quiet_stderr() -> Iterator[None]:
    """Hide what native code writes to file descriptor 2, while the GPU build looks for GPUs."""
    kept, sink = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(sink, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(sink)


def _import_onnxruntime() -> Any:
    # On import the GPU build warns of every device folder it cannot read.
    with _quiet_stderr():
        import onnxruntime
    return onnxruntime


ort = _import_onnxruntime()
ort.set_default_logger_severity(_ERRORS_ONLY)


def cuda_expected(provider: str) -> bool:
    """Whether someone asked for a GPU, or the machine shows one."""
    if provider == "cuda":
        return True
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    hidden = visible is not None and visible.strip() in {"", "-1"}
    return not hidden and Path("/dev/nvidia0").exists()


def open_session(path: Path, provider: str = "auto", threads: int = 1) -> Any:
    """Return a session on ``provider`` ("auto", "cpu", "cuda"); CUDA that cannot be had gives the CPU and one warning.

    Raises BadBundle where the file is no graph that ONNX Runtime runs, ValueError for another provider.
    """
    if provider not in {"auto", "cpu", "cuda"}:
        raise ValueError(f'provider must be "auto", "cpu" or "cuda", not {provider!r}')
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = _ERRORS_ONLY
    wants_cuda = provider != "cpu" and cuda_expected(provider)
    try:
        if wants_cuda and "CUDAExecutionProvider" in ort.get_available_providers():
            session = _open_on_cuda(path, options)
        else:
            session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime raises a dozen kinds without a common base
        raise BadBundle(f"{path}: does not load ({str(error).splitlines()[0]}); {ADVICE}") from error
    # The list of available providers tells what was compiled in; only the session tells what it got.
    if wants_cuda and "CUDAExecutionProvider" not in session.get_providers():
        log.warning("no CUDA for this session, using the CPU", advice="check the driver, CUDA and cuDNN, or set cpu")
    return session


def _open_on_cuda(path: Path, options: Any) -> Any:
    if hasattr(ort, "preload_dlls"):
        with _quiet_stderr():
            ort.preload_dlls()  # finds CUDA and cuDNN that were installed as Python packages
    options.log_severity_level = _FATAL_ONLY
    with _quiet_stderr():
        return ort.InferenceSession(str(path), options, providers=["CUDAExecutionProvider", "CPUExecutionProvider"])
