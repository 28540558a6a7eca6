"""Processes that run the real loop and end by SIGKILL at a named point of a transaction, and who starts them.

`python -m tests.broker.killed` imports everything once and forks for each process asked for: ten kills would otherwise
be ten starts of Python. It holds no client of Kafka itself, so that there is nothing that a fork could break.
"""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable
from typing import Any, Self

from confluent_kafka import Consumer, Producer, TopicPartition

import model.tables
from consumer import kafka
from consumer.embedding import Model
from consumer.http import Health
from consumer.loop import Loop
from consumer.metrics import Metrics
from consumer.settings import Settings
from consumer.state import PartitionState
from consumer.transaction import Produce
from model.events import Item, decode_event
from model.fold import Fold, FoldSettings
from model.taxonomy import Taxonomy
from tests.broker.test_serve import ENCODER, TAXONOMY, events, turn_until
from tests.broker.test_twice import put_before
from tests.model.conftest import WordEncoder

SECONDS = 60
"""No process outlives it, whatever becomes of those who wait for it."""
POINTS = ("begin", "produce", "written", "offsets", "committed")
"""Before `begin_transaction`, after half of the records, after all of them, after the offsets, after the commit."""
KILLED = -signal.SIGKILL


class OtherEncoder(WordEncoder):
    """What another bundle would be: another version, and other vectors."""

    version = "words-2"

    def encode(self, texts: Any) -> Any:
        return super().encode([" ".join(f"{word}'" for word in text.lower().split()) for text in texts])


OTHER = OtherEncoder()
TAXONOMIES = {ENCODER.version: TAXONOMY, OTHER.version: Taxonomy(Taxonomy.read(), OTHER)}


def make_with(settings: Settings, encoder: WordEncoder) -> Loop:
    """Return a loop that serves with this encoder."""

    def new_fold(model: Model) -> Fold:
        return Fold(FoldSettings(), model.encoder, model.taxonomy)

    return Loop(settings, Model(encoder, TAXONOMIES[encoder.version]), new_fold, Metrics(), Health())


def end_at(loop: Loop, point: str, end: Callable[[], None]) -> None:
    """Call `end` when the loop next comes to the point; what it produced until then is at the broker."""
    transactions = loop._transactions

    def flushed() -> None:
        transactions._producer.flush(10)
        end()

    def committed() -> None:
        transactions._producer._producer.commit_transaction(10)  # type: ignore[attr-defined]
        end()

    if point == "begin":
        put_before(loop, "begin_transaction", end)
    elif point == "written":
        put_before(loop, "send_offsets_to_transaction", flushed)
    elif point == "unsent":
        put_before(loop, "commit_transaction", end)
    elif point == "offsets":
        put_before(loop, "commit_transaction", flushed)
    elif point == "committed":
        put_before(loop, "commit_transaction", committed)
    else:
        assert point == "produce", point
        commit = transactions.commit

        def halved(records: Iterable[Produce], consumer: Consumer, offsets: list[TopicPartition]) -> None:
            def half() -> Iterable[Produce]:
                for number, record in enumerate(made):
                    if number == len(made) // 2:
                        flushed()
                    yield record

            made = list(records)
            commit(half(), consumer, offsets)

        transactions.commit = halved  # type: ignore[method-assign]


def _live(order: dict[str, Any]) -> None:
    """Be the process that was asked for; never returns."""
    signal.alarm(SECONDS)
    PartitionState.tell = lambda self: []  # type: ignore[method-assign]  # else lists depend on when it is heard
    if order["timeout"]:
        kafka.TRANSACTION_TIMEOUT_SECONDS = order["timeout"]
    model.tables.CHUNK_BYTES = order["chunk"]
    if order["point"] == "unsent":  # what is produced stays here until it is flushed, by the commit at the latest
        vars(kafka)["Producer"] = lambda config: Producer(config | {"linger.ms": 1_500})
    settings = Settings(**order["settings"])
    loop = make_with(settings, OTHER if order["version"] == OTHER.version else ENCODER)
    turn_until(loop, order["after"], SECONDS)
    if order["point"]:
        number = signal.Signals[order["signal"]]
        # To this very thread: a signal to the process may stop another first, and this one commits meanwhile.
        end_at(loop, order["point"], lambda: signal.pthread_kill(threading.get_ident(), number))
    loop.run()


def _warm() -> None:
    """Let the compiler do its work once for all that are forked."""
    fold = Fold(FoldSettings(), ENCODER, TAXONOMY)
    fold.put_item(Item(item="i0"), ENCODER.encode(["robot"])[0])
    for value in (value for _, value in events(3)):
        event = decode_event(value)
        texts = fold.texts(event)
        fold.apply(event, dict(zip(texts, ENCODER.encode(texts), strict=True)))


def main() -> None:
    """Fork and wait as the lines of the standard input ask for; at its end nobody is left."""
    _warm()
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # the loops log to the standard output
    living: set[int] = set()
    try:
        for line in sys.stdin:
            order = json.loads(line)
            if "wait" in order:
                answer = os.waitstatus_to_exitcode(os.waitpid(order["wait"], 0)[1])
                living.discard(order["wait"])
            else:
                answer = os.fork()
                if answer == 0:
                    try:
                        _live(order)
                    finally:  # nothing of what the nursery has to do may be done twice
                        os._exit(1)
                living.add(answer)
            print(answer, file=answers, flush=True)
    finally:
        for pid in living:
            os.kill(pid, signal.SIGKILL)


class Nursery:
    """Starts such processes; they end with it. Use as a context manager."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.broker.killed"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()

    def start(
        self,
        settings: Settings,
        point: str = "",
        after: int = 0,
        *,
        version: str = ENCODER.version,
        number: signal.Signals = signal.SIGKILL,
        timeout: int = 0,
    ) -> int:
        """Start a process that ends at the point of its first transaction with so many events behind it.

        `number` is the signal that it sends itself; `timeout`, in seconds, is what a transaction of its may take.
        """
        told = {name: getattr(settings, name) for name in settings.model_fields_set}
        chunk = model.tables.CHUNK_BYTES
        order = {"settings": told, "point": point, "after": after, "version": version, "chunk": chunk}
        return self._ask(order | {"signal": number.name, "timeout": timeout})

    def wait(self, pid: int) -> int:
        """Wait until the process ends and return how: its status, or the signal as a negative number."""
        return self._ask({"wait": pid})

    def run(self, settings: Settings, point: str, after: int = 0, *, version: str = ENCODER.version) -> None:
        """Run a process up to its end by SIGKILL."""
        assert self.wait(self.start(settings, point, after, version=version)) == KILLED

    def _ask(self, order: dict[str, Any]) -> int:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with self._lock:
            print(json.dumps(order), file=self._process.stdin, flush=True)
            return int(self._process.stdout.readline())


if __name__ == "__main__":
    main()
