"""What is in the topics at the end: for the checker of the torture, and for the times of the events."""

from typing import NamedTuple

import msgspec
from confluent_kafka import Consumer, TopicPartition

from consumer.settings import Settings
from consumer.state import read_position
from model.events import Interests, decode_event
from tests.torture.checker import Account, Letter, Mark
from tests.torture.load import sent
from tests.torture.reading import lists, messages, place, searched

SECONDS = 30.0


class _Letter(msgspec.Struct):
    partition: int
    offset: int


class Events(NamedTuple):
    """The events topic."""

    ends: dict[int, int]
    stamps: dict[str, int]
    """Timestamp (ms) of each event's record."""


def events(settings: Settings) -> Events:
    """Read the events, once nobody sends any more."""
    found = Events({}, {})
    for message in messages(settings, settings.events_topic):
        partition, offset = place(message)
        found.ends[partition] = offset + 1
        found.stamps[decode_event(message.value()).id] = message.timestamp()[1]
    return found


def account(settings: Settings, ends: dict[int, int]) -> Account:
    """Return what the checker compares, but for the restored state."""
    consumer = Consumer({"bootstrap.servers": settings.bootstrap, "group.id": settings.app_id})
    asked = [TopicPartition(settings.events_topic, partition) for partition in sorted(ends)]
    try:
        group = {one.partition: max(0, one.offset) for one in consumer.committed(asked, SECONDS)}
    finally:
        consumer.close()
    letter = msgspec.json.Decoder(_Letter)
    buried = [letter.decode(message.value() or b"") for message in messages(settings, settings.dead_letters_topic)]
    came = [
        sent(*place(message), decode_event(message.value())) for message in messages(settings, settings.events_topic)
    ]
    return Account(
        sent=came,
        lists=lists(settings),
        letters=[Letter(one.partition, one.offset) for one in buried],
        marks=[
            Mark(message.partition() or 0, position.offset, position.sequence)
            for message in messages(settings, settings.state_topic)
            if message.key() == b"p"
            for position in [read_position(message.value() or b"")]
        ],
        ends=ends,
        group=group,
        interests=searched(settings, {str(one.at_ms) for one in came if len(one.due) > 1}),
    )


def unreadable(settings: Settings) -> list[str]:
    """Return which interests are not what consumers were promised, a line for each."""
    found, decoder = [], msgspec.json.Decoder(Interests)
    for message in messages(settings, settings.interests_topic):
        try:
            if (value := message.value()) is not None:
                decoder.decode(value)
        except msgspec.MsgspecError as error:
            found.append("interests at {}:{}: {}".format(*place(message), error))
    return found
