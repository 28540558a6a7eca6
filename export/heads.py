"""The heads of a bundle: one JSON file, checksummed like the rest, read with distrust."""

from collections.abc import Mapping
from pathlib import Path

import msgspec

from model.errors import BadBundle
from model.heads import POSITIVE, SENTIMENT, Head

HEADS = "heads.json"


class _Written(msgspec.Struct, frozen=True):
    labels: list[str]
    weights: list[list[float]]
    bias: list[float]


def write(folder: Path, heads: Mapping[str, Head], dim: int) -> None:
    """Write heads by name; nothing where there are none. Raises `BadBundle` where one reads no vectors of `dim`."""
    if not heads:
        return
    for name, head in heads.items():
        _check(str(folder), name, head, dim)
    written = {
        name: _Written(list(head.labels), head.weights.astype(float).tolist(), head.bias.astype(float).tolist())
        for name, head in heads.items()
    }
    (folder / HEADS).write_bytes(msgspec.json.format(msgspec.json.encode(written), indent=0))


def read(folder: Path, dim: int) -> dict[str, Head]:
    """Return the heads by name; raises `BadBundle` where they are not what `write` writes."""
    try:
        written = msgspec.json.decode((folder / HEADS).read_bytes(), type=dict[str, _Written])
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise BadBundle(f"{folder}: unreadable {HEADS} ({error}); train its heads again") from error
    heads = {}
    for name, one in written.items():
        try:
            heads[name] = Head.of(one.labels, one.weights, one.bias)
        except ValueError as error:
            raise BadBundle(f"{folder}: head {name!r}: {error}; train it again") from error
        _check(str(folder), name, heads[name], dim)
    return heads


def _check(where: str, name: str, head: Head, dim: int) -> None:
    if head.dim != dim:
        raise BadBundle(f"{where}: head {name!r} reads vectors of {head.dim}, the encoder gives {dim}; train it again")
    if name == SENTIMENT and POSITIVE not in head.labels:
        raise BadBundle(f"{where}: head {name!r} has no label {POSITIVE!r}; name it otherwise, or label it so")
