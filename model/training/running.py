"""What all training has in common: Transformers' arguments, the fastest precision, checkpoints to go on from."""

import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

import torch
from transformers.trainer_callback import TrainerState

Precision = Literal["fp32", "bf16", "fp16"]


def best_precision() -> Precision:
    """Return what this machine computes fastest in: bf16 where it has instructions for it, on a GPU else fp16."""
    if torch.cuda.is_available():
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    return "bf16" if torch.ops.mkldnn._is_mkldnn_bf16_supported() else "fp32"


def arguments(work: Path, precision: Precision, metric: str, seed: int) -> dict[str, Any]:
    """Return the part of `TrainingArguments` that says: judge and save after each epoch, keep the one best by `metric`.

    A higher metric is better. A run that was cut short goes on from its checkpoint as if it had not been.
    """
    return {
        "output_dir": str(work),
        "lr_scheduler_type": "linear",
        "weight_decay": 0.01,
        "bf16": precision == "bf16",
        "fp16": precision == "fp16",
        "train_sampling_strategy": "group_by_length",
        "eval_strategy": "epoch",
        "save_strategy": "epoch",
        "logging_strategy": "epoch",
        "save_total_limit": 2,
        "load_best_model_at_end": True,
        "metric_for_best_model": metric,
        "greater_is_better": True,
        "seed": seed,
        "use_cpu": not torch.cuda.is_available(),
        "disable_tqdm": True,
        "dataloader_pin_memory": torch.cuda.is_available(),
        "remove_unused_columns": False,
        "restore_callback_states_from_checkpoint": True,  # how long early stopping has been waiting
    }


def whole_checkpoint(work: Path) -> str | None:
    """Return the newest checkpoint that was written to its end, which is the trainer's state; None without one."""
    steps: dict[int, Path] = {}
    for path in work.glob("checkpoint-*"):
        with suppress(OSError, ValueError):
            steps[TrainerState.load_from_json(str(path / "trainer_state.json")).global_step] = path
    return str(steps[max(steps)]) if steps else None


def clear_checkpoints(work: Path) -> None:
    """Remove the checkpoints of a run that came to its end: the same command begins anew."""
    for checkpoint in work.glob("checkpoint-*"):
        shutil.rmtree(checkpoint)
