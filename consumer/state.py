"""One partition's state and its changelog: what is written with every transaction, and how it is read back.

Keys: `p` position; `u/USER`, `v/PART/USER` a profile (further parts where it is large); `d/SLOT/PART` what a
transaction changed in the shared tables, on a ring; `s/PARITY/PART` the shared tables, two generations in turn.
Whatever is of an older sequence than it should be is left over from before, and ignored.
"""

import zlib
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence

import msgspec

from model.errors import Fatal
from model.fold import Fold
from model.tables import Fact

FORMAT = 1
PART_BYTES = 480 * 1024
USER_PARTS = 8
"""More than the largest profile can need."""


class Record(msgspec.Struct, frozen=True, array_like=True):
    """A value of the changelog; `body` may go on in the next of `parts`, all of one sequence."""

    format: int
    sequence: int
    part: int
    parts: int
    zipped: bool
    body: bytes
    heads: int = 1
    """Of a snapshot: its first so many parts are one chunk, which holds the names of all items."""


class Position(msgspec.Struct, frozen=True, array_like=True):
    """How far the partition is folded, and the decisions with which."""

    format: int
    offset: int
    """Of the first event not yet folded."""
    sequence: int
    """Transactions so far."""
    bundle: str
    items_offsets: list[int]
    settings: str
    merged: list[int] = []
    """Of each partition: the first offset of its facts that is not merged yet."""
    partitions: int = 0
    """How many the events had: more or fewer, and users are no longer where their state is."""
    ring: int = 0
    """Keys that the deltas go round on (0: not begun)."""
    answers_from: int = 0
    """Events before this offset were answered by the predecessor (see `consumer/predecessor.py`)."""


class _Merged(msgspec.Struct, frozen=True, array_like=True):
    """A delta or the beginning of a snapshot, after the facts up to `merged` were counted, too."""

    merged: list[int]
    body: bytes


class _Head(msgspec.Struct, frozen=True, array_like=True):
    format: int


_encode = msgspec.msgpack.Encoder().encode
_head = msgspec.msgpack.Decoder(_Head)
_record = msgspec.msgpack.Decoder(Record)
_position = msgspec.msgpack.Decoder(Position)
_merged = msgspec.msgpack.Decoder(_Merged)
_facts = msgspec.msgpack.Decoder(list[Fact])

Told = Sequence[tuple[int, int, bytes]]
"""Facts of other partitions: partition, offset, value; by partition, then offset."""
ReadTold = Callable[[Sequence[int], Sequence[int]], Told]
"""Returns what was told from one vector of offsets up to another."""


def pack(sequence: int, body: bytes) -> list[bytes]:
    """Return the values that hold `body`, each below 512 KiB."""
    zipped = len(body) > 4096
    if zipped:
        body = zlib.compress(body, 1)
    pieces = _pieces(body)
    return [_encode(Record(FORMAT, sequence, part, len(pieces), zipped, piece)) for part, piece in enumerate(pieces)]


def _pieces(body: bytes) -> list[bytes]:
    return [body[start : start + PART_BYTES] for start in range(0, len(body), PART_BYTES)] or [b""]


def unpack(records: Sequence[Record]) -> bytes:
    """Return the body that `pack` split."""
    body = b"".join(record.body for record in records)
    return zlib.decompress(body) if records[0].zipped else body


def read_record(value: bytes) -> Record:
    """Return a record; raises `Fatal` if a newer version wrote it or it is damaged."""
    _check(value)
    try:
        return _record.decode(value)
    except msgspec.DecodeError as error:
        raise Fatal(f"the state topic is damaged ({error}); start over with a new app_id") from None


def read_position(value: bytes) -> Position:
    """Return a position; raises `Fatal` as `read_record` does."""
    _check(value)
    try:
        return _position.decode(value)
    except msgspec.DecodeError as error:
        raise Fatal(f"the state topic is damaged ({error}); start over with a new app_id") from None


def _check(value: bytes) -> None:
    try:
        found = _head.decode(value).format
    except msgspec.DecodeError as error:
        raise Fatal(f"the state topic holds what is no state ({error}); choose another app_id") from None
    if found > FORMAT:
        raise Fatal(f"state of format {found}, this version reads up to {FORMAT}: upgrade, or use a new app_id")


class PartitionState:
    """The fold of one partition, where it is, and what the next transaction must write."""

    def __init__(self, partition: int, fold: Fold, position: Position) -> None:
        self.partition, self.fold, self.position = partition, fold, position
        self.events_since_snapshot = 0
        self.deltas_since_snapshot = 0
        self.snapshots = 0
        """Its lowest bit says which of the two generations was written last."""
        self._began = self._heads = self._parts = self._written = 0
        """Of the snapshot that is being written: its sequence, how many parts its first chunk and it have, and how many
        of them are written."""
        self._blocks: list[tuple[int, int]] = []
        """What is left of it."""
        self.complete = 0
        """Sequence at which the latest complete snapshot began: deltas since then are needed."""

    def beginning(self) -> list[tuple[bytes, bytes | None]]:
        """Return the record that says where a partition begins of which nothing is folded yet."""
        return [(b"p", _encode(self.position))]

    def tell(self) -> list[bytes]:
        """Return the facts that the next transaction is to tell the other partitions; to be called before `changes`."""
        return _in_records(self.fold.facts) if self.fold.facts else []

    def merge(self, told: Told) -> int:
        """Count what other partitions told, once each, and return how many facts that were.

        How far is recorded with the next transaction; until then nothing depends on it.
        """
        merged, count = list(self.position.merged), 0
        for partition, offset, value in told:
            merged += [0] * (partition + 1 - len(merged))
            if partition != self.partition and offset >= merged[partition]:
                facts = _facts.decode(value)
                self.fold.merge(facts)
                count += len(facts)
                merged[partition] = offset + 1
        self.position = msgspec.structs.replace(self.position, merged=merged)
        return count

    def changes(
        self, offset: int, events: int, users: Iterable[str], items_offsets: list[int], every: int, ring: int
    ) -> list[tuple[bytes, bytes | None]]:
        """Move on to `offset` and return the records (None: tombstone) that say so.

        To be thrown away with the state if the transaction is aborted.
        """
        before, fold = self.position, self.fold
        sequence = before.sequence + 1
        self.position = msgspec.structs.replace(
            before, offset=offset, sequence=sequence, items_offsets=items_offsets, ring=ring
        )
        records: list[tuple[bytes, bytes | None]] = [(b"p", _encode(self.position))]
        for user in users:
            profile = fold.dump_user(user)
            name = user.encode()
            if profile is None:
                records.append((b"u/" + name, None))
                records += [(b"v/%d/" % part + name, None) for part in range(1, USER_PARTS)]
                continue
            for part, value in enumerate(pack(sequence, profile)):
                records.append((b"v/%d/" % part + name if part else b"u/" + name, value))
        for part, value in enumerate(pack(sequence, _encode(_Merged(before.merged, fold.take_delta())))):
            records.append((b"d/%d/%d" % (sequence % ring, part), value))
        self.events_since_snapshot += events
        self.deltas_since_snapshot += 1
        return records + self._snapshot(sequence, every, ring)

    def _snapshot(self, sequence: int, every: int, ring: int) -> list[tuple[bytes, bytes | None]]:
        """Return the next parts of a snapshot, if one is being written or is due."""
        fold, chunks = self.fold, []
        # A delta that is still needed must never be overwritten: snapshots come every half of the ring, take a quarter
        # of it, and where crashes cut them short they are made at once before the ring is full.
        urgent = sequence - self.complete >= ring * 3 // 4
        due = urgent or self.events_since_snapshot >= every or self.deltas_since_snapshot >= ring // 2
        if due and not self._blocks:
            self.events_since_snapshot = self.deltas_since_snapshot = 0
            self.snapshots += 1
            first, self._blocks = fold.begin_snapshot()
            chunks = _pieces(_encode(_Merged(self.position.merged, first)))
            self._heads = len(chunks)
            self._began, self._parts, self._written = sequence, self._heads + len(self._blocks), 0
        if self._blocks and (urgent or not chunks):
            share = len(self._blocks) if urgent else 1 + self._parts * 4 // ring
            blocks, self._blocks = self._blocks[:share], self._blocks[share:]
            chunks += [fold.snapshot_rows(block, sequence) for block in blocks]
        if chunks and not self._blocks:
            self.complete = self._began
        records: list[tuple[bytes, bytes | None]] = []
        for chunk in chunks:
            value = _encode(Record(FORMAT, self._began, self._written, self._parts, False, chunk, self._heads))
            records.append((b"s/%d/%d" % (self.snapshots % 2, self._written), value))
            self._written += 1
        return records


def _in_records(facts: list[Fact]) -> list[bytes]:
    """Return the facts as values of at most 480 KiB; one fact is far below that."""
    value = _encode(facts)
    if len(value) <= PART_BYTES or len(facts) == 1:
        return [value]
    half = len(facts) // 2
    return _in_records(facts[:half]) + _in_records(facts[half:])


def _nothing_told(_start: Sequence[int], _stop: Sequence[int]) -> Told:
    return []


def restore(
    partition: int,
    fold: Fold,
    table: Mapping[bytes, bytes],
    read_told: ReadTold = _nothing_told,
    beat: Callable[[], None] = lambda: None,
) -> PartitionState | None:
    """Return the state that a changelog's latest values describe, None if it is empty; `fold` is new.

    `read_told` gives what other partitions told and was merged since the snapshot; `beat` is called now and then.

    Raises:
        Fatal: the changelog is of a newer format, or something is missing from it.
    """
    if b"p" not in table:
        return None
    position = read_position(table[b"p"])
    deltas: dict[int, dict[int, Record]] = {}
    snapshots: dict[tuple[int, int], dict[int, Record]] = {}
    users: dict[str, dict[int, Record]] = {}
    for key, value in table.items():
        kind, _, rest = key.partition(b"/")
        if kind == b"u":
            users.setdefault(rest.decode(), {})[0] = read_record(value)
        elif kind == b"v":
            part, _, name = rest.partition(b"/")
            users.setdefault(name.decode(), {})[int(part)] = read_record(value)
        elif kind in (b"d", b"s"):
            record = read_record(value)
            if kind == b"d":
                deltas.setdefault(record.sequence, {})[record.part] = record
            else:
                parity = int(rest.partition(b"/")[0])
                snapshots.setdefault((record.sequence, parity), {})[record.part] = record
    since, parity = 0, 0
    merged: list[int] = []
    for (sequence, which), parts in sorted(snapshots.items(), reverse=True):
        if len(parts) == parts[min(parts)].parts:
            since, parity = sequence, which
            heads = parts[0].heads
            head = _merged.decode(b"".join(parts[part].body for part in range(heads)))
            merged = head.merged
            fold.load_snapshot([head.body, *(parts[part].body for part in range(heads, len(parts)))])
            break
    told: dict[int, deque[tuple[int, bytes]]] = {}
    for other, offset, value in read_told(merged, position.merged):
        if other != partition:
            told.setdefault(other, deque()).append((offset, value))
    for sequence in range(since + 1, position.sequence + 1):
        beat()
        parts = deltas.get(sequence, {})
        if not parts or len(parts) != parts[min(parts)].parts:
            raise Fatal(f"delta {sequence} is missing from the state of partition {partition}: use a new app_id")
        delta = _merged.decode(unpack([parts[part] for part in range(len(parts))]))
        fold.tables.open_rows(sequence)
        for other, queue in sorted(told.items()):
            while queue and other < len(delta.merged) and queue[0][0] < delta.merged[other]:
                fold.merge(_facts.decode(queue.popleft()[1]))
        fold.load_delta(delta.body)
    for user, parts in users.items():
        beat()
        if 0 in parts:
            wanted = range(parts[0].parts)
            fold.load_user(user, unpack([parts[part] for part in wanted]))
    fold.loaded()
    state = PartitionState(partition, fold, position)
    state.deltas_since_snapshot = position.sequence - since
    state.snapshots, state.complete = parity, since
    return state
