"""A bundle: an immutable, checksummed folder that holds one encoder and the proof that it works."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from export import catalogue, durable, heads
from export.catalogue import Catalogue
from model.encoding import Pooling, Vectors
from model.errors import BadBundle
from model.heads import Head

FORMAT_VERSION = 1
MANIFEST = "manifest.json"
TOKENIZER = "tokenizer.json"
SELFTEST = "selftest.json"
ADVICE = "run: penchant export MODEL_DIR OUT"
_BLOCK_BYTES = 4 << 20
"""Read and hashed at once. Between two blocks a thread asks for the interpreter, and whoever has it waits until that
thread runs: with a low priority beside a stream that is long, so few and large ones."""


class Parity(msgspec.Struct, frozen=True, kw_only=True):
    """How close the exported graph came to the model it was made from."""

    max_abs_diff: float
    sentences: int


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What a bundle says of itself; fields are only ever added."""

    format_version: int
    version: str
    """Prefix of the hash over every file's hash: equal contents, equal version."""
    created_at: str
    dim: int
    learnt: int = 0
    """Of `dim`, the last half is a part of its own, what was learnt from choices; 0 where nothing was."""
    max_length: int
    """Tokens, special ones included."""
    pooling: Pooling
    forms: dict[str, str]
    """Precision to file: "fp32" always, "int8" and "fp16" where there are such."""
    parity: Parity
    opset: int
    tools: dict[str, str]
    sha256: dict[str, str]
    selftest: str = SELFTEST
    tokenizer: str = TOKENIZER
    items: int = 0
    """How many texts (of a catalogue, of topics) have their vectors in it."""
    tuning: dict[str, Any] | None = None
    """How it was trained, and what the gate said of it (`penchant tune`); None: it is as it was exported."""


class _Figures(msgspec.Struct):
    before: float
    after: float


class _Tuning(msgspec.Struct):
    """What is read of `Manifest.tuning`."""

    blend: dict[str, _Figures]


class _FormatOnly(msgspec.Struct):
    format_version: int


class SelfTest(msgspec.Struct, frozen=True):
    """Texts and the vectors that fp32 gave for them when the bundle was made."""

    texts: list[str]
    vectors: list[list[float]]

    def expected(self) -> Vectors:
        """Return the vectors, float32, shape (len(texts), dim)."""
        return np.asarray(self.vectors, dtype=np.float32)


@dataclass(frozen=True)
class Bundle:
    """A bundle whose every file was verified when it was opened."""

    path: Path
    manifest: Manifest

    @classmethod
    def open(cls, path: Path | str) -> "Bundle":
        """Read and verify a bundle.

        Raises BadBundle where the manifest is missing, unreadable or of another format, a file missing or changed, or
        a head not one of these vectors.
        """
        folder = Path(path)
        try:
            raw = (folder / MANIFEST).read_bytes()
        except OSError as error:
            raise BadBundle(f"{folder}: not a bundle, cannot read {MANIFEST} ({error.strerror}); {ADVICE}") from error
        manifest = parse_manifest(raw, str(folder))
        for name, expected in manifest.sha256.items():
            try:
                actual = file_sha256(folder / name)
            except OSError as error:
                raise BadBundle(f"{folder}: cannot read {name} ({error.strerror}); {ADVICE}") from error
            if actual != expected:
                raise BadBundle(
                    f"{folder}: {name} is not what was exported (sha256 differs); copy it again or {ADVICE}"
                )
        opened = cls(folder, manifest)
        opened.heads()
        return opened

    def described(self, tuning: dict[str, Any]) -> "Bundle":
        """Return the bundle with `tuning` in its manifest, which is no part of its version; before it is published."""
        manifest = msgspec.structs.replace(self.manifest, tuning=tuning)
        scratch = self.path / f".{MANIFEST}"
        scratch.write_bytes(msgspec.json.format(msgspec.json.encode(manifest), indent=2))
        scratch.replace(self.path / MANIFEST)
        return Bundle(self.path, manifest)

    def form(self, precision: str) -> Path:
        """Return the path of one precision's graph; BadBundle where there is none."""
        try:
            return self.path / self.manifest.forms[precision]
        except KeyError:
            known = ", ".join(sorted(self.manifest.forms))
            raise BadBundle(f"{self.path}: has no form {precision!r}; choose one of: {known}") from None

    @property
    def tokenizer_path(self) -> Path:
        """The file that the Rust tokenizer reads."""
        return self.path / self.manifest.tokenizer

    def selftest(self) -> SelfTest:
        """Return the self-test; BadBundle where it is unreadable or of another shape."""
        try:
            test = msgspec.json.decode((self.path / self.manifest.selftest).read_bytes(), type=SelfTest)
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise BadBundle(f"{self.path}: unreadable self-test ({error}); {ADVICE}") from error
        shapes = {len(vector) for vector in test.vectors}
        if not test.texts or len(test.vectors) != len(test.texts) or shapes != {self.manifest.dim}:
            raise BadBundle(f"{self.path}: self-test of the wrong shape; {ADVICE}")
        return test

    def items(self) -> Catalogue | None:
        """Return the catalogue's vectors, None where it carries none; BadBundle where they are of another shape."""
        if not {catalogue.VECTORS, catalogue.HASHES} <= self.manifest.sha256.keys():
            return None
        return catalogue.read(self.path, self.manifest.dim)

    def heads(self) -> dict[str, Head]:
        """Return the heads by name, none where it carries none; BadBundle where one does not fit the vectors."""
        return heads.read(self.path, self.manifest.dim) if heads.HEADS in self.manifest.sha256 else {}


def parse_manifest(raw: bytes, where: str) -> Manifest:
    """Return the manifest that these bytes are; every file's name in it is safe to use.

    Raises BadBundle, which says ``where``, if it is unreadable, of another format or contradicts itself.
    """
    try:
        found = msgspec.json.decode(raw, type=_FormatOnly).format_version
        if found > FORMAT_VERSION:
            raise BadBundle(
                f"{where}: format {found} is newer than this Penchant reads ({FORMAT_VERSION}); "
                f"upgrade penchant, or with this one {ADVICE}"
            )
        if found < 1:
            raise BadBundle(f"{where}: unknown format {found}; {ADVICE}")
        manifest = msgspec.json.decode(raw, type=Manifest)
        if manifest.tuning is not None:
            msgspec.convert(manifest.tuning, _Tuning)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise BadBundle(f"{where}: unreadable {MANIFEST} ({error}); {ADVICE}") from error
    for name in sorted({*manifest.forms.values(), manifest.selftest, manifest.tokenizer} - manifest.sha256.keys()):
        raise BadBundle(f"{where}: {name} has no checksum in {MANIFEST}; {ADVICE}")
    for name in manifest.sha256:
        if Path(name).name != name or name in {".", "..", MANIFEST} or "\0" in name:
            raise BadBundle(f"{where}: {name!r} is not the name of a file in the bundle; {ADVICE}")
    if content_version(manifest.sha256) != manifest.version:
        raise BadBundle(f"{where}: version {manifest.version!r} is not that of these files; {ADVICE}")
    if manifest.learnt and 2 * manifest.learnt != manifest.dim:
        raise BadBundle(f"{where}: {manifest.learnt} of {manifest.dim} dimensions cannot be a part; {ADVICE}")
    if "fp32" not in manifest.forms:
        raise BadBundle(f"{where}: has no fp32 form; {ADVICE}")
    return manifest


def file_sha256(path: Path) -> str:
    """Return the hex sha256 of a file's bytes."""
    digest, block = hashlib.sha256(), memoryview(bytearray(_BLOCK_BYTES))
    with path.open("rb", buffering=0) as file:
        while count := file.readinto(block):
            digest.update(block[:count])
    return digest.hexdigest()


def content_version(sha256: dict[str, str]) -> str:
    """Return the version that belongs to these files: 12 hex digits."""
    lines = "".join(f"{name} {digest}\n" for name, digest in sorted(sha256.items()))
    return hashlib.sha256(lines.encode()).hexdigest()[:12]


def write_selftest(path: Path, texts: Sequence[str], vectors: Vectors) -> None:
    """Write the self-test; ``vectors`` has shape (len(texts), dim)."""
    path.write_bytes(msgspec.json.encode(SelfTest(list(texts), vectors.astype(float).tolist())))


def write_bundle(out: Path | str, fill: Callable[[Path], Manifest]) -> Bundle:
    """Make a bundle at ``out``, whole or not at all.

    ``fill`` writes every file but the manifest into the folder it is given and returns the manifest; ``version`` and
    ``sha256`` are set here, from what was written. Raises BadBundle where ``out`` exists or cannot be written.
    """
    target = Path(out)
    if target.exists():
        raise BadBundle(f"{target}: exists already, and bundles never change; choose another folder")
    try:
        durable.make_folder(target.parent)
        with durable.temporary_folder(target.parent, target.name) as folder:
            manifest = fill(folder)
            sha256 = {path.name: file_sha256(path) for path in sorted(folder.iterdir())}
            manifest = msgspec.structs.replace(manifest, sha256=sha256, version=content_version(sha256))
            (folder / MANIFEST).write_bytes(msgspec.json.format(msgspec.json.encode(manifest), indent=2))
            durable.rename(folder, target)
    except OSError as error:
        raise BadBundle(
            f"{target}: cannot write the bundle ({error.strerror or error}); free space or choose another folder"
        ) from error
    return Bundle.open(target)
