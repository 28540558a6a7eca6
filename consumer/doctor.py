"""Looks at everything that `serve` needs and says of each, in one line, whether it is well, else what to do."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata
from typing import TYPE_CHECKING

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient, ConfigResource, ResourceType

from consumer import topics
from model.errors import PenchantError

if TYPE_CHECKING:
    from consumer.settings import Settings
    from export.bundle import Bundle


@dataclass(frozen=True)
class Line:
    """One finding."""

    ok: bool
    subject: str
    text: str

    def __str__(self) -> str:
        return f"{'ok  ' if self.ok else 'FAIL'}  {self.subject:<10} {self.text}"


def run(settings: "Settings", bootstrap: str | None = None) -> list[Line]:
    """Return the findings, in the order in which to mend them."""
    where = bootstrap or settings.bootstrap
    lines = [_version()]
    try:
        client = topics.admin(where, settings.kafka)
    except PenchantError as error:
        lines.append(Line(False, "broker", str(error)))
    else:
        lines += _guard("broker", lambda: iter([Line(True, "broker", f"{where} answers; {_describe(client)}")]))
        lines += _topics(client, settings)
    if settings.registry is None:
        lines += _guard("bundle", lambda: _bundle(settings))
    else:
        lines += _guard("registry", lambda: _registry(settings, settings.registry or ""))
        if settings.apprentice is not None:
            lines += _guard("apprentice", lambda: _apprentice(settings.apprentice or "", settings.registry or ""))
    return lines


def _version() -> Line:
    import confluent_kafka

    ours, librdkafka = metadata.version("confluent-kafka"), confluent_kafka.libversion()[0]
    ok = tuple(int(part) for part in ours.split(".")[:2]) >= (2, 16)
    advice = "" if ok else ": 2.16 or newer is needed (older ones return short batches)"
    return Line(ok, "client", f"confluent-kafka {ours}, librdkafka {librdkafka}{advice}")


def _describe(client: "AdminClient") -> str:
    """Return which cluster it is; and, as far as the client can learn it, how old (the protocol tells no release)."""
    cluster = client.describe_cluster(request_timeout=topics.TIMEOUT_SECONDS).result()
    resource = ConfigResource(ResourceType.BROKER, str(cluster.nodes[0].id))
    settings = client.describe_configs([resource], request_timeout=topics.TIMEOUT_SECONDS)[resource].result()
    # Settings that came or went with a release.
    release = "4.0 or newer" if "log.message.format.version" not in settings else "older than 4.0"
    return f"{len(cluster.nodes)} broker(s), Kafka {release}, cluster {cluster.cluster_id}"


def _topics(client: "AdminClient", settings: "Settings") -> Iterator[Line]:
    try:
        there = client.list_topics(timeout=topics.TIMEOUT_SECONDS).topics
        partitions = len(there[settings.events_topic].partitions) if settings.events_topic in there else 1
        wanted = topics.wanted_by(settings, partitions)
        differences = topics.differences(client, wanted)
    except Exception as error:  # permissions, time-outs: whatever the client raises is the finding
        yield Line(False, "topics", f"cannot be looked at ({error}); 'penchant topics plan' prints the ACLs needed")
        return
    for topic in wanted:
        found = [difference for difference in differences if difference.topic.name == topic.name]
        missing = any(difference.found is None for difference in found)
        if missing:
            yield Line(False, "topic", f"{topic.name} is missing: 'penchant topics apply' creates it")
            continue
        # Retention, replication and the like are the operator's to choose; the policy is not.
        wrong = [item for item in found if item.setting in ("cleanup.policy", "partitions")]
        if wrong:
            said = "; ".join(f"{item.setting} is {item.found}, should be {item.wanted}" for item in wrong)
            yield Line(False, "topic", f"{topic.name}: {said}; change it with Kafka's own tools")
        else:
            yield Line(True, "topic", f"{topic.name}: {len(there[topic.name].partitions)} partition(s)")


def _bundle(settings: "Settings") -> Iterator[Line]:
    from export.bundle import Bundle

    bundle = Bundle.open(settings.bundle)
    yield Line(True, "bundle", f"{bundle.manifest.version} in {settings.bundle}: every checksum is right")
    yield _provider(bundle)


def _registry(settings: "Settings", url: str) -> Iterator[Line]:
    """Look at what `serve` would load from there, as it would."""
    from consumer.follower import cache
    from export.registry import Registry

    registry = Registry.open(url)
    current = registry.current()
    if current is None:
        yield Line(False, "registry", f"{url} has no current model: penchant models publish, then promote")
    else:
        bundle = registry.fetch(current.version, cache(settings))
        yield Line(True, "registry", f"{current.version} is current in {url}: every checksum is right")
        yield _provider(bundle)


def _apprentice(version: str, url: str) -> Iterator[Line]:
    from export.registry import Registry

    Registry.open(url).manifest(version)
    yield Line(True, "apprentice", f"{version} is published")


def _provider(bundle: "Bundle") -> Line:
    from export.encoder import OnnxEncoder

    encoder = OnnxEncoder(bundle)
    return Line(True, "provider", f"{encoder.provider}, {encoder.precision}: passes the bundle's self-test")


def _guard(subject: str, look: Callable[[], Iterator[Line]]) -> Iterator[Line]:
    try:
        yield from look()
    except PenchantError as error:
        yield Line(False, subject, str(error))
    except KafkaException as error:
        yield Line(False, subject, f"{error.args[0].str()}; 'penchant topics plan' prints the ACLs needed")
