"""Prepares and reads the folder that a one-node Kafka lives in: settings, format, cluster, log."""

from __future__ import annotations

import base64
import subprocess
import uuid
from typing import TYPE_CHECKING

from consumer.broker_jars import BrokerError
from consumer.orphan import dying_with_parent

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

_LOG_LINES_SHOWN = 15
_LISTS = {"listeners", "advertised.listeners", "listener.security.protocol.map"}


def write_properties(
    data_dir: Path, port: int, controller_port: int, more: Mapping[str, str | int] | None = None
) -> Path:
    """Write the settings of a node that is broker and controller in one; return the file.

    `more` replaces settings, but lengthens those that list listeners.
    """
    settings: dict[str, str | int] = {
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
        # Groups of the protocol `consumer` may ask for time-outs as short as those of `classic`; by default 45 s.
        "group.consumer.min.session.timeout.ms": 6000,
        "group.consumer.min.heartbeat.interval.ms": 2000,
        "offsets.topic.num.partitions": 1,
        "offsets.topic.replication.factor": 1,
        "transaction.state.log.num.partitions": 1,
        "transaction.state.log.replication.factor": 1,
        "transaction.state.log.min.isr": 1,
        "share.coordinator.state.topic.num.partitions": 1,
        "share.coordinator.state.topic.replication.factor": 1,
        "share.coordinator.state.topic.min.isr": 1,
    }
    for key, value in (more or {}).items():
        settings[key] = f"{settings[key]},{value}" if key in _LISTS else value
    path = data_dir / "server.properties"
    path.write_text("".join(f"{key}={value}\n" for key, value in settings.items()))
    return path


def format_storage(kafka: list[str], properties: Path, data_dir: Path, scram: Sequence[str] = ()) -> None:
    """Make `data_dir` a new cluster's, as Kafka needs it before its first start.

    `kafka` is the command up to the name of the Java class; `scram` are users, as Kafka's tool takes them:
    `SCRAM-SHA-512=[name=NAME,password=PASSWORD]`. Raises `BrokerError`.
    """
    # A leading letter keeps the id from being read as an option.
    identity = "P" + base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")[1:]
    command = [
        *kafka,
        "kafka.tools.StorageTool",
        "format",
        "--ignore-formatted",
        "-t",
        identity,
        "-c",
        str(properties),
        *(word for user in scram for word in ("--add-scram", user)),
    ]
    with (data_dir / "broker.log").open("ab") as log:
        status = subprocess.run(
            dying_with_parent(command), stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, check=False
        ).returncode
    if status != 0:
        raise BrokerError(
            f"Kafka could not prepare {data_dir} (status {status}). Is it writable, and was it made by this version? "
            f"Removing the folder starts afresh.\n{log_end(data_dir)}"
        )


def cluster_id(data_dir: Path) -> str:
    """Return the id of the cluster to which a formatted folder belongs; raises `BrokerError`."""
    for line in (data_dir / "kafka" / "meta.properties").read_text().splitlines():
        key, _, value = line.partition("=")
        if key == "cluster.id":
            return value
    raise BrokerError(f"{data_dir}/kafka/meta.properties names no cluster. Removing the folder starts afresh.")


def log_end(data_dir: Path) -> str:
    """Return the last lines of the node's log, without Java's stack traces, ready to be shown."""
    log = data_dir / "broker.log"
    lines = log.read_text(errors="replace").splitlines() if log.exists() else []
    telling = [line for line in lines if line.strip() and not line.startswith("\tat ")]
    return f"The end of {log}:\n" + "\n".join(f"  {line}" for line in telling[-_LOG_LINES_SHOWN:])
