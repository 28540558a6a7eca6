"""The topics that Penchant reads and writes: what they should be, what they are, and making the missing ones."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic, ResourceType

from consumer.security import Heard
from model.errors import DependencyAway, Fatal

if TYPE_CHECKING:
    from consumer.settings import Settings

ANSWER_SECONDS = 5.0
TIMEOUT_SECONDS = 10.0
HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
SYNCED = "min.insync.replicas"
"""How many copies must have a record before its write is confirmed; where that is more than there are, none ever is."""

_SILENT = logging.Logger("penchant.topics", logging.CRITICAL + 1)  # what goes wrong is raised, not logged

Properties = Mapping[str, str | int | float | bool]


@dataclass(frozen=True)
class Topic:
    """A topic as it should be."""

    name: str
    partitions: int
    configs: dict[str, str]
    replication: int = 1
    """Copies of every record."""


@dataclass(frozen=True)
class Difference:
    """What the broker has, against what should be; `found` is None where the topic is missing."""

    topic: Topic
    setting: str
    wanted: str
    found: str | None

    def __str__(self) -> str:
        if self.found is None:
            settings = ", ".join(f"{name}={value}" for name, value in sorted(self.topic.configs.items()))
            return (
                f"+ {self.topic.name}: missing; partitions={self.topic.partitions}, "
                f"replication factor={self.topic.replication}, {settings}"
            )
        return f"! {self.topic.name}: {self.setting} is {self.found}, should be {self.wanted}; left as it is"


def wanted(
    app_id: str,
    *,
    events: str = "events",
    items: str = "items",
    partitions: int = 1,
    replication: int = 1,
    tune_requests: bool = False,
    apprentice: bool = False,
) -> list[Topic]:
    """Return every topic of `app_id`; with 3 or more replicas a write needs all but one of them."""
    compacted = {"max.compaction.lag.ms": str(DAY_MS), "segment.ms": str(6 * HOUR_MS)}
    durable = {SYNCED: str(max(1, replication - 1))}

    def topic(name: str, policy: str, count: int = partitions, **more: str) -> Topic:
        configs = {"cleanup.policy": policy, **durable, **(compacted if "compact" in policy else {})}
        configs |= {key.replace("_", "."): value for key, value in more.items()}
        return Topic(name, count, configs, replication)

    month = str(30 * DAY_MS)
    optional = []
    if tune_requests:
        optional.append(topic(f"{app_id}.tune-requests", "delete", 1, retention_ms=month))
    if apprentice:
        optional.append(topic(f"{app_id}.apprentice", "compact,delete", retention_ms=month))
    return [
        topic(events, "delete", retention_ms=month),
        topic(items, "compact", 1),
        topic(f"{app_id}.recommendations", "compact,delete", retention_ms=month),
        topic(f"{app_id}.interests", "compact"),
        topic(f"{app_id}.dead-letters", "delete", 1, retention_ms=month),
        topic(f"{app_id}.facts", "delete", retention_ms=str(7 * DAY_MS)),
        *optional,
        topic(f"{app_id}.state", "compact"),
    ]


def wanted_by(settings: "Settings", partitions: int = 1, replication: int = 1) -> list[Topic]:
    """Return every topic that `settings` name."""
    return wanted(
        settings.app_id,
        events=settings.events_topic,
        items=settings.items_topic,
        partitions=partitions,
        replication=replication,
        tune_requests=settings.tune_requests,
        apprentice=bool(settings.apprentice),
    )


def admin(bootstrap: str, properties: Properties | None = None) -> AdminClient:
    """Return a client for a broker that answers, else raise `DependencyAway`; `properties`: librdkafka's (TLS, ...)."""
    heard, given = Heard(), dict(properties or {})
    config: dict[str, Any] = {**given, "bootstrap.servers": bootstrap, "log_level": 0, "error_cb": heard}
    client = AdminClient(config, logger=_SILENT)
    try:
        client.list_topics(timeout=ANSWER_SECONDS)
    except KafkaException as error:
        client.poll(0.05)  # only then does it say why
        heard.check(bootstrap, given)
        raise DependencyAway(
            f"no Kafka at {bootstrap} ({error.args[0].str()}); start one ('penchant broker run') or give --bootstrap"
        ) from None
    return client


def differences(client: AdminClient, topics: list[Topic]) -> list[Difference]:
    """Return what is missing and what is otherwise than it should be."""
    there = client.list_topics(timeout=TIMEOUT_SECONDS).topics
    found = [topic for topic in topics if topic.name in there]
    result = [Difference(topic, "topic", "present", None) for topic in topics if topic.name not in there]
    resources = {topic.name: ConfigResource(ResourceType.TOPIC, topic.name) for topic in found}
    answers = client.describe_configs(list(resources.values()), request_timeout=TIMEOUT_SECONDS) if found else {}
    for topic in found:
        partitions = there[topic.name].partitions.values()
        if len(partitions) != topic.partitions:
            result.append(Difference(topic, "partitions", str(topic.partitions), str(len(partitions))))
        copies = sorted({len(partition.replicas) for partition in partitions})
        if copies != [topic.replication]:
            said = " and ".join(str(count) for count in copies)
            result.append(Difference(topic, "replication factor", str(topic.replication), said))
        configs = answers[resources[topic.name]].result()
        for name, value in topic.configs.items():
            actual = str(configs[name].value) if name in configs else "unknown"
            if set(actual.split(",")) != set(value.split(",")):
                result.append(Difference(topic, name, value, actual))
            if name == SYNCED and copies and actual.isdecimal() and int(actual) > copies[0]:
                result.append(Difference(topic, name, f"at most {copies[0]}, or no write succeeds", actual))
    # The changelog of a partition lives in the partition of the same number.
    state, events = topics[-1].name, topics[0].name
    if state in there and events in there and len(there[state].partitions) != len(there[events].partitions):
        result.append(Difference(topics[-1], "partitions", f"those of {events}", str(len(there[state].partitions))))
    return result


def create(client: AdminClient, topics: list[Topic]) -> list[str]:
    """Create the topics that are missing, change none; return the names of the created.

    Raises `Fatal` where Kafka refuses: no permission, more replicas than brokers, ...
    """
    there = client.list_topics(timeout=TIMEOUT_SECONDS).topics
    missing = [
        NewTopic(topic.name, topic.partitions, topic.replication, config=dict(topic.configs))
        for topic in topics
        if topic.name not in there
    ]
    if not missing:
        return []
    for name, future in client.create_topics(missing, operation_timeout=TIMEOUT_SECONDS).items():
        try:
            future.result()
        except KafkaException as error:
            raise Fatal(f"cannot create topic {name}: {error.args[0].str()}") from None
    return [topic.topic for topic in missing]


def acls(app_id: str, topics: list[Topic], principal: str = "User:penchant") -> list[str]:
    """Return the grants that `serve` needs, as options of kafka-acls.sh."""
    start = f"--add --allow-principal {principal}"
    names = [topic.name for topic in topics]
    reads = [*names[:2], f"{app_id}.facts", f"{app_id}.state"]
    writes = names[2:]
    return [
        *(f"{start} --operation Read --operation Describe --topic {name}" for name in reads),
        *(f"{start} --operation Write --operation Describe --topic {name}" for name in writes),
        f"{start} --operation Read --resource-pattern-type prefixed --group {app_id}",
        f"{start} --operation Write --operation Describe --resource-pattern-type prefixed --transactional-id {app_id}",
    ]


def plan(bootstrap: str, app_id: str, topics: list[Topic], properties: Properties | None = None) -> list[str]:
    """Return the plan as lines to print: differences, then the ACLs needed."""
    found = differences(admin(bootstrap, properties), topics)
    changes = [str(difference) for difference in found] or ["every topic is as it should be"]
    return [*changes, "", "Where the broker checks permissions, 'serve' needs (kafka-acls.sh):", *acls(app_id, topics)]


def apply(bootstrap: str, topics: list[Topic], properties: Properties | None = None) -> list[str]:
    """Create what is missing; return lines to print: what was created, what differs and was left."""
    client = admin(bootstrap, properties)
    created = create(client, topics)
    names = set(created)
    left = [difference for difference in differences(client, topics) if difference.topic.name not in names]
    lines = [f"+ {name}: created" for name in created] + [str(difference) for difference in left]
    return lines or ["every topic is as it should be"]
