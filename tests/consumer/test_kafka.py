"""What a client hears: errors that pass are passed over, refusals are not."""

from typing import cast

import pytest
from confluent_kafka import KafkaError, Message

from consumer import kafka
from model.errors import Fatal


class Heard:
    def __init__(self, code: int | None) -> None:
        self._error = None if code is None else KafkaError(code)

    def error(self) -> KafkaError | None:
        return self._error


def heard(*codes: int | None) -> list[Message]:
    return [cast(Message, Heard(code)) for code in codes]


def test_what_passes_is_passed_over() -> None:
    messages = heard(None, KafkaError._PARTITION_EOF, None, KafkaError._TRANSPORT)
    assert list(kafka.good(messages)) == [messages[0], messages[2]]


@pytest.mark.parametrize("code", [KafkaError.TOPIC_AUTHORIZATION_FAILED, KafkaError._AUTHENTICATION])
def test_a_refusal_is_no_silence(code: int) -> None:
    with pytest.raises(Fatal, match="topics plan"):
        list(kafka.good(heard(None, code)))
