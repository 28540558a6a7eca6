"""Which models partitions still use: what must not be removed from a registry."""

from typing import TYPE_CHECKING

from confluent_kafka import KafkaException, TopicPartition

from consumer import kafka, topics
from consumer.failures import bundle_of
from model.errors import DependencyAway

if TYPE_CHECKING:
    from consumer.settings import Settings


def used_versions(settings: "Settings") -> set[str]:
    """Return the models that the partitions of `app_id` recorded with their offsets; raises `DependencyAway`."""
    client = topics.admin(settings.bootstrap, settings.kafka)
    there = client.list_topics(timeout=topics.TIMEOUT_SECONDS).topics
    if settings.events_topic not in there:
        return set()
    asker = kafka.asker(settings, settings.app_id, lambda _: None)
    try:
        asked = [TopicPartition(settings.events_topic, number) for number in there[settings.events_topic].partitions]
        found = asker.committed(asked, timeout=kafka.TIMEOUT_SECONDS)
    except KafkaException as exception:
        raise DependencyAway(f"Kafka does not say which models are in use ({exception.args[0].str()})") from None
    finally:
        asker.close()
    return {bundle for one in found if one.offset >= 0 and (bundle := bundle_of(one.metadata))}
