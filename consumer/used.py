"""Which models partitions still use: what must not be removed from a registry."""

from typing import TYPE_CHECKING

from consumer import kafka, topics
from consumer.failures import bundle_of

if TYPE_CHECKING:
    from consumer.settings import Settings


def used_versions(settings: "Settings") -> set[str]:
    """Return the models that the partitions of `app_id` recorded with their offsets; raises `DependencyAway`."""
    client = topics.admin(settings.bootstrap, settings.kafka)
    there = client.list_topics(timeout=topics.TIMEOUT_SECONDS).topics
    if settings.events_topic not in there:
        return set()
    found = kafka.committed(settings, settings.app_id, there[settings.events_topic].partitions, lambda _: None)
    return {bundle for one in found if one.offset >= 0 and (bundle := bundle_of(one.metadata))}
