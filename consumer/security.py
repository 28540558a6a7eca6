"""Secrets among librdkafka's properties: read from files, never shown; and what to say when Kafka refuses a client."""

import logging
import re
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from confluent_kafka import KafkaError, KafkaException, Producer

from model.errors import Fatal

Value = str | int | float | bool
PATIENCE_SECONDS = 30.0
"""For so long a client that is refused waits, if Kafka knew it before: a broker that starts may not know its users."""
_CERTIFICATE = re.compile("certificate|unknown ca")
_SILENT = logging.Logger("penchant.security", logging.CRITICAL + 1)  # what goes wrong is raised, not logged


class Secret(str):
    """A text for librdkafka alone: `str` gives it, `repr`, and so that of everything that holds it, does not."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "'***'"


def is_secret(name: str) -> bool:
    """Say whether a property of librdkafka holds a secret.

    >>> [is_secret(name) for name in ("sasl.password", "ssl.key.pem", "sasl.oauthbearer.client.secret")]
    [True, True, True]
    >>> is_secret("ssl.key.location"), is_secret("sasl.username")
    (False, False)
    """
    # sasl.oauthbearer.config goes to a callback as it is; what is in it nobody knows.
    return name == "sasl.oauthbearer.config" or name.endswith(
        ("password", "passphrase", "secret", "key.pem", "ssl_key")
    )


def is_property(value: object) -> bool:
    """Say whether librdkafka takes it as a property's value."""
    return isinstance(value, str | int | float | bool)


def properties(plain: Mapping[str, Value], files: Mapping[str, Path]) -> dict[str, Value]:
    """Return what every client gets: `plain`, and for each of `files` what is in it, less one newline at its end.

    Raises:
        ValueError: a file cannot be read or is empty, or a property is given twice; no secret is in the text.
    """
    found: dict[str, Value] = {
        name: Secret(value) if is_secret(name) else value for name, value in plain.items()
    }  # fmt: skip
    for name, path in files.items():
        if name in found:
            raise ValueError(f"{name} is both in kafka and in kafka_secrets; leave one out")
        try:
            text = path.read_text(encoding="utf-8")
        except OSError as error:
            raise ValueError(f"{name}: cannot read its file {path} ({error.strerror})") from None
        except UnicodeDecodeError:
            raise ValueError(f"{name}: its file {path} is no UTF-8") from None
        found[name] = Secret(text.removesuffix("\n").removesuffix("\r"))
        if not found[name]:
            raise ValueError(f"{name}: its file {path} is empty")
    return found


def check(given: Mapping[str, Value]) -> None:
    """Let librdkafka look at the properties (names, values, certificates); nothing is sent to Kafka.

    Raises:
        Fatal: it does not take them; one line, without secrets.
    """
    if not given or "sasl.oauthbearer.method" in given:  # with a method it would ask for a token at once
        return
    try:
        Producer({**given, "log_level": 0}, logger=_SILENT)
    except (KafkaException, TypeError, ValueError) as error:
        first = error.args[0] if error.args else error
        said = first.str() if isinstance(first, KafkaError) else str(first)
        raise Fatal(f"settings: kafka: {hidden(said, given)}; see docs/security.md") from None


def hidden(text: str, given: Mapping[str, Value]) -> str:
    """Return the text in one line, with every secret in it replaced by stars."""
    for value in given.values():
        if isinstance(value, Secret) and value:
            text = text.replace(str(value), "***")
    return " ".join(text.split())


class Heard:
    """An `error_cb` that notes refusals: by Kafka of our user, or by TLS of a certificate.

    librdkafka tries again for ever, and says why only to who polls; calls merely time out.
    """

    def __init__(self, on_error: Callable[[KafkaError], None] | None = None) -> None:
        self._on_error = on_error
        self._why = ""
        self._since = 0.0
        self._known = False

    def __call__(self, error: KafkaError) -> None:
        """Note it and pass it on; never raises, as librdkafka calls it."""
        by_tls = error.code() in (KafkaError._SSL, KafkaError._TRANSPORT) and _CERTIFICATE.search(error.str())
        if error.code() == KafkaError._AUTHENTICATION or by_tls:
            self._since = self._since if self._why else time.monotonic()
            self._why = error.str()
        if self._on_error is not None:
            self._on_error(error)

    def well(self) -> None:
        """Note that Kafka answered."""
        self._why, self._known = "", True

    def check(self, bootstrap: str, given: Mapping[str, Value]) -> None:
        """To be called where Kafka did not answer and the client was polled since.

        Raises:
            Fatal: it refuses us, so that waiting is no use; one line, without secrets.
        """
        if self._why and time.monotonic() - self._since >= (PATIENCE_SECONDS if self._known else 0):
            raise Fatal(
                f"Kafka at {bootstrap} and this client do not trust each other ({hidden(self._why, given)}): "
                "mend kafka or kafka_secrets in the settings, see docs/security.md"
            )
