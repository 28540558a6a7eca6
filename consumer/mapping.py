"""Turns a team's own JSON events into Penchant's, as the table `[mapping]` of the settings says."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, get_args

import msgspec
from pydantic import BaseModel, ConfigDict, PrivateAttr, model_validator

from model.errors import BadEvent
from model.events import Event, decode_event, decode_with, encode

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_EXACT = 2**53
"""Whole floats below it are exact; beyond, two ids might become one."""
_IDS = frozenset({"id", "user", "item", "recommendation"})
_ALWAYS = ("id", "user", "at_ms")
_KINDS: dict[str, tuple[msgspec.structs.FieldInfo, ...]] = {
    kind.kind: msgspec.structs.fields(kind) for kind in get_args(Event)
}
_FIELDS = frozenset({"kind", *(field.name for fields in _KINDS.values() for field in fields)})
_ABSENT = object()
_foreign = msgspec.json.Decoder(dict[str, Any])


class Mapping(BaseModel):
    """Where each field of an event is found in a foreign JSON object.

    >>> fields = {"id": "uuid", "user": "actor.id", "at_ms": "ts", "item": "sku"}
    >>> mapping = Mapping(fields=fields, constants={"kind": "click"}, time_unit="s")
    >>> mapping.decode(b'{"uuid":"e1","actor":{"id":7},"ts":1.5,"sku":"i1"}')
    Click(id='e1', user='7', at_ms=1500, context=None, recommendation=None, rank=None, item='i1')
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    fields: dict[str, str]
    """Our field -> dotted path in their JSON; what is absent there is left out, which only optional fields may be."""
    kinds: dict[str, str] = {}
    """Their value at the path of `kind` -> our kind; none: theirs are ours."""
    constants: dict[str, str | int | float | bool] = {}
    """Our field -> the same value for every event."""
    time_unit: Literal["ms", "s", "iso8601"] = "ms"
    """Of what is found for `at_ms`; ISO 8601 without an offset is UTC."""

    _paths: tuple[tuple[str, tuple[str, ...]], ...] = PrivateAttr(default=())

    @model_validator(mode="after")
    def _sensible(self) -> "Mapping":
        if (problem := next(self._problems(), None)) is not None:
            raise ValueError(problem)
        self._paths = tuple((name, tuple(path.split("."))) for name, path in self.fields.items())
        return self

    def _problems(self) -> Iterator[str]:
        """Say what would make every event, or every one of a kind, a dead letter."""
        for name in (*self.fields, *self.constants):
            if name not in _FIELDS:
                yield f"an event has no field {name!r} (fields are: {', '.join(sorted(_FIELDS))})"
            if name in self.fields and name in self.constants:
                yield f"{name!r} is in both fields and constants; keep one"
        for name, path in self.fields.items():
            if not all(path.split(".")):
                yield f"the path {path!r} of {name!r} has an empty part"
        for name in _ALWAYS:
            if name not in self.fields:
                yield f"fields lacks {name!r}, which every event has its own of"
        if "kind" not in self.fields and "kind" not in self.constants:
            yield "'kind' is in neither fields nor constants"
        if self.kinds and "kind" not in self.fields:
            yield "kinds needs the path of 'kind' in fields"
        reached = [self.constants["kind"]] if "kind" in self.constants else [*self.kinds.values()]
        for kind in reached:
            if kind not in _KINDS:
                yield f"there is no kind {kind!r} (kinds are: {', '.join(sorted(_KINDS))})"
                continue
            for field in _KINDS[str(kind)]:
                if field.name in self.constants:
                    try:
                        msgspec.convert(self._ours(field.name, self.constants[field.name]), field.type)
                    except msgspec.ValidationError as error:
                        yield f"constant {field.name!r}: {error}"
                elif field.required and field.name not in self.fields:
                    yield f"a {kind} needs {field.name!r}, in fields or constants"

    def decode(self, value: bytes | None, record_ms: int | None = None) -> Event:
        """Return the event that a record's foreign value stands for.

        Raises `BadEvent`, and nothing else, with the reasons of `decode_event`.
        """
        theirs = decode_with(_foreign, value)
        ours: dict[str, Any] = {name: self._ours(name, constant) for name, constant in self.constants.items()}
        absent = []
        for name, path in self._paths:
            found: Any = theirs
            for part in path:
                found = found.get(part, _ABSENT) if isinstance(found, dict) else _ABSENT
            if found is _ABSENT:
                absent.append(name)
            else:
                ours[name] = self._ours(name, found)
        try:
            mapped = encode(ours)
        except Exception as error:  # no byte string may stop the stream, as in `decode_event`
            raise BadEvent("undecodable", f"{type(error).__name__}: {error}"[:300]) from None
        try:
            return decode_event(mapped, record_ms)
        except BadEvent as bad:
            lacks = [self.fields[name] for name in absent if f"field `{name}`" in bad.detail]
            raise BadEvent(bad.reason, f"{bad.detail}; the record has no {lacks[0]}" if lacks else bad.detail) from None

    def _ours(self, name: str, value: Any) -> Any:
        """Return their value as ours; what cannot be is left as it is, for `decode_event` to refuse."""
        if name == "kind" and self.kinds:
            key = value if isinstance(value, str) else msgspec.json.encode(value).decode()  # 7, true, null
            if key not in self.kinds:
                raise BadEvent("unknown_kind", f"{key!r} is not in the mapping's kinds"[:300])
            return self.kinds[key]
        if name in _IDS:
            if isinstance(value, float) and value.is_integer() and abs(value) < _EXACT:
                return str(int(value))
            return str(value) if isinstance(value, int) and not isinstance(value, bool) else value
        return self._millis(value) if name == "at_ms" else value

    def _millis(self, value: Any) -> Any:
        if self.time_unit == "iso8601":
            try:
                when = datetime.fromisoformat(value)
                return ((when if when.tzinfo else when.replace(tzinfo=UTC)) - _EPOCH) // timedelta(milliseconds=1)
            except (TypeError, ValueError, OverflowError):
                raise BadEvent("schema", f"at_ms: {value!r} is no ISO 8601 time"[:300]) from None
        if isinstance(value, bool) or not isinstance(value, int | float):
            return value
        return round(value * 1000) if self.time_unit == "s" and abs(value) < _EXACT else value
