"""The log of which model is current: files numbered upwards, and whoever makes the next number was quicker."""

import re
from datetime import UTC, datetime
from typing import Annotated, Literal, Protocol
from uuid import uuid4

import msgspec
import structlog

from model.errors import PenchantError

_NAME = re.compile(r"([0-9]{8})\.json")

log = structlog.get_logger("penchant.registry")


class Conflict(PenchantError):
    """Somebody else was quicker: look at what is current now, and decide anew."""


class Pointer(msgspec.Struct, frozen=True, kw_only=True):
    """One entry of the log: from `at` on, `version` was current. The entry with the highest number counts."""

    number: Annotated[int, msgspec.Meta(ge=1)]
    version: str
    at: str
    """ISO 8601, UTC."""
    why: Literal["promote", "rollback"]
    note: str = ""
    id: str = ""
    """Random: tells an entry of one's own, whose confirmation was lost on the way, from somebody else's."""


class PointerStore(Protocol):
    """Where the log is kept; raises `DependencyAway` where it does not answer, `Fatal` where it cannot be used."""

    url: str

    def pointers(self) -> list[str]:
        """Return the names of all files of the pointer log, whatever they are."""

    def read_pointer(self, name: str) -> bytes:
        """Return a pointer's bytes."""

    def create_pointer(self, name: str, data: bytes) -> None:
        """Write a pointer; raises `FileExistsError` where there is one of that name."""


class PointerLog:
    """Reads and appends; what has no pointer's name is nobody's business, what has one but is none is passed over."""

    def __init__(self, store: PointerStore) -> None:
        self._store = store

    def current(self) -> Pointer | None:
        """Return the pointer that counts now, None where there is none."""
        return self._newest(self._numbers())

    def history(self) -> list[Pointer]:
        """Return all pointers, the oldest first; numbers may be missing."""
        pointers = (self._read(number) for number in sorted(self._numbers()))
        return [pointer for pointer in pointers if pointer is not None]

    def append(self, version: str, expected: int | None, why: Literal["promote", "rollback"], note: str) -> Pointer:
        """Make a version current if the pointer that counts is still number ``expected``; else raises Conflict."""
        numbers = self._numbers()  # once: a pointer that comes between two looks would be replaced unseen
        current = self._newest(numbers)
        number = None if current is None else current.number
        if number != expected:
            raise self._superseded(expected, number)
        following = max(numbers, default=0) + 1  # beyond everything that has a number, be it a pointer or not
        at = datetime.now(UTC).isoformat(timespec="milliseconds")
        pointer = Pointer(number=following, version=version, at=at, why=why, note=note, id=uuid4().hex)
        try:
            self._store.create_pointer(_name(following), msgspec.json.encode(pointer))
        except FileExistsError:
            raise self._superseded(expected, following) from None
        return pointer

    def check(self, expected: int) -> None:
        """Raise Conflict unless the pointer that counts is number ``expected``."""
        current = self.current()
        if current is None or current.number != expected:
            raise self._superseded(expected, None if current is None else current.number)

    def _superseded(self, expected: int | None, found: int | None) -> Conflict:
        return Conflict(
            f"{self._store.url}: {_said(expected)} was to be replaced, but there is {_said(found)} by now; "
            "look again (penchant models list), then decide anew"
        )

    def _numbers(self) -> list[int]:
        return [int(match[1]) for match in map(_NAME.fullmatch, self._store.pointers()) if match]

    def _newest(self, numbers: list[int]) -> Pointer | None:
        for number in sorted(numbers, reverse=True):
            pointer = self._read(number)
            if pointer is not None:
                return pointer
        return None

    def _read(self, number: int) -> Pointer | None:
        try:
            pointer = msgspec.json.decode(self._store.read_pointer(_name(number)), type=Pointer)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            log.warning("not a pointer, passed over", registry=self._store.url, file=_name(number), fault=str(error))
            return None
        if pointer.number != number:
            log.warning("pointer of another number, passed over", registry=self._store.url, file=_name(number))
            return None
        return pointer


def trail(history: list[Pointer]) -> list[str]:
    """Return the versions that rollbacks go back along; the last is current.

    >>> def log(*pairs): return [Pointer(number=1, version=v, at="", why=w) for w, v in pairs]
    >>> trail(log(("promote", "a"), ("promote", "b"), ("promote", "c"), ("rollback", "b")))
    ['a', 'b']
    """
    versions: list[str] = []
    for pointer in history:
        if pointer.why == "rollback":
            while versions and versions[-1] != pointer.version:
                versions.pop()
        if versions[-1:] != [pointer.version]:
            versions.append(pointer.version)
    return versions


def _name(number: int) -> str:
    return f"{number:08}.json"


def _said(number: int | None) -> str:
    return "no pointer" if number is None else f"pointer {number}"
