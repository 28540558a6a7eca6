"""Whether Kafka answers: what its clients say, what a probe finds, and one line when that changes."""

import time

import structlog
from confluent_kafka import Consumer, KafkaError, KafkaException

from consumer.http import Health
from consumer.settings import Settings

log = structlog.get_logger("penchant.reach")
SILENT_SECONDS = 5.0
"""A machine that is stopped or cut off closes no connection: only asking tells."""
PROBE_SECONDS = 3.0
"""Long enough for a broker that collects garbage."""


class Reach:
    """What is known of the broker; its callbacks run within polls, in the loop's thread."""

    def __init__(self, settings: Settings, health: Health) -> None:
        self._settings, self._health = settings, health
        self.why = ""
        """Why Kafka counts as away; empty while it is there."""
        self._suspect = False
        self._last_error = ""
        self._answered_at = -SILENT_SECONDS  # never

    def on_error(self, error: KafkaError) -> None:
        """Note what a client says; never raises, as librdkafka calls it."""
        if error.code() == KafkaError._ALL_BROKERS_DOWN:
            self._suspect = True
        else:
            self._last_error = error.str()

    def answered(self) -> None:
        """Note that Kafka just did something that only a living broker can."""
        self._suspect, self._last_error, self._answered_at = False, "", time.monotonic()

    def turned(self) -> None:
        """Note that a whole turn went well; says so if Kafka was away before."""
        if self.why and not self._suspect:
            self.why = ""
            log.info("kafka is back")

    def away(self, why: str) -> None:
        """Be unready; say why where that is news."""
        self._health.say(False, why)
        if not self.why:
            log.warning("kafka is away", why=why)
        self.why = why

    def answers(self, consumer: Consumer) -> bool:
        """Say whether Kafka is there; asks it, for 3 s at most, if it is away, suspected or was silent for a while."""
        if not self.why and not self._suspect and time.monotonic() - self._answered_at < SILENT_SECONDS:
            return True
        try:
            consumer.list_topics(self._settings.events_topic, timeout=PROBE_SECONDS)
        except KafkaException as exception:
            self._suspect = True
            why = self._last_error or exception.args[0].str()
            self.away(f"no broker of {self._settings.bootstrap} answers ({why}); waiting")
            return False
        self.answered()
        return True
