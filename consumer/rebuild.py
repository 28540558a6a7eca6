"""`penchant rebuild`: fold the events anew under a new `app_id`, silently, and take over where the old one ends."""

import re
from typing import TYPE_CHECKING

from consumer import kafka, serve, topics
from consumer.settings import APP_ID
from model.errors import Fatal

if TYPE_CHECKING:
    from consumer.settings import Settings


def successor(settings: "Settings", app_id: str) -> "Settings":
    """Return the settings of the one that replaces `settings.app_id`; makes its topics, like those of the old one.

    May be called again for a rebuild that was interrupted: it goes on.

    Raises:
        DependencyAway: Kafka does not answer.
        Fatal: there is nothing to replace, or `app_id` is no name for it.
    """
    if app_id == settings.app_id:
        raise Fatal(f"{app_id} is what is to be rebuilt; give a new name, such as {app_id}-2")
    if re.match(APP_ID, app_id) is None:
        raise Fatal(f"{app_id!r} is no app_id: letters, digits, dots, dashes, up to 100; such as {settings.app_id}-2")
    # Copied: validated anew, PENCHANT_APP_ID would win over the name that was given.
    successor = settings.model_copy(update={"app_id": app_id, "predecessor": settings.app_id, "start": "earliest"})
    client = topics.admin(settings.bootstrap, settings.kafka)
    there = client.list_topics(timeout=topics.TIMEOUT_SECONDS).topics
    if settings.events_topic not in there:
        raise Fatal(f"topic {settings.events_topic} is missing: nothing to fold; check events_topic")
    partitions = len(there[settings.events_topic].partitions)
    found = kafka.committed(settings, settings.app_id, range(partitions), lambda _: None)
    if settings.state_topic not in there or all(one.offset < 0 for one in found):
        raise Fatal(
            f"{settings.app_id} has no state or no offsets: nothing to replace; 'penchant serve' under the new app_id, "
            'with start = "earliest", folds everything, and answers it'
        )
    copies = len(next(iter(there[settings.state_topic].partitions.values())).replicas)
    topics.create(client, topics.wanted_by(successor, partitions, copies))
    return successor


def run(settings: "Settings", app_id: str) -> int:
    """Rebuild, take over and serve, until told to stop; return the exit status."""
    return serve.run(successor(settings, app_id))
