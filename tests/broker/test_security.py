"""TLS and SASL against a real Kafka that demands them; whoever is refused says why, in one line, without secrets."""

import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from consumer import doctor, topics
from consumer.broker import EmbeddedBroker
from consumer.check import check
from consumer.demo_process import free_port
from consumer.replay import send_events
from consumer.security import Value
from consumer.settings import Settings
from model.errors import PenchantError
from model.events import Click
from tests.broker.process import SECONDS, Serve, wait_for
from tests.broker.test_away import ids
from tests.broker.test_serve import events, lists, make, prepare, running, send, turn_until
from tests.broker.test_twice import turn_until_fatal

pytestmark = [
    pytest.mark.skipif(shutil.which("openssl") is None, reason="certificates are made by openssl"),
    pytest.mark.timeout(180),
]
MODULES = "org.apache.kafka.common.security"
PLAIN, SCRAM, KEY, WRONG = "the-plain-one", "the-scram-one", "the-key's-one", "not-the-right-one"
WAYS = ["PLAIN", "SCRAM-SHA-512", "OAUTHBEARER", "certificate"]


@dataclass(frozen=True)
class Demanding:
    """A broker that anybody may use on one listener (for what the tests do besides), and few on the others."""

    folder: Path
    open: str
    sasl: str
    certificate: str

    def secret(self, value: str) -> Path:
        """Return a file with the value, as an editor would leave it."""
        path = self.folder / f"secret-{abs(hash(value))}"
        path.write_text(value + "\n")
        return path

    def told(self, way: str, password: str | None = None, ca: str = "ca") -> dict[str, Any]:
        """Return the settings of a client that comes this way."""
        kafka: dict[str, Value] = {"security.protocol": "SASL_SSL", "ssl.ca.location": str(self.folder / f"{ca}.pem")}
        secrets: dict[str, Path] = {}
        if way == "certificate":
            kafka |= {
                "security.protocol": "SSL",
                "ssl.certificate.location": str(self.folder / "client.pem"),
                "ssl.key.location": str(self.folder / "client.key"),
            }
            secrets["ssl.key.password"] = self.secret(password or KEY)
        elif way == "OAUTHBEARER":
            kafka |= {"enable.sasl.oauthbearer.unsecure.jwt": True, "sasl.oauthbearer.config": "principal=penchant"}
        else:
            kafka["sasl.username"] = "penchant"
            secrets["sasl.password"] = self.secret(password or (PLAIN if way == "PLAIN" else SCRAM))
        if way != "certificate":
            kafka["sasl.mechanism"] = way
        bootstrap = self.certificate if way == "certificate" else self.sasl
        return {"bootstrap": bootstrap, "kafka": kafka, "kafka_secrets": secrets}

    def settings(self, way: str, password: str | None = None, ca: str = "ca") -> Settings:
        """Return settings whose topics are there and whose clients come this way."""
        there = prepare(self.open)
        named = {name: getattr(there, name) for name in ("app_id", "events_topic", "items_topic", "linger_seconds")}
        return Settings(**named, **self.told(way, password, ca))

    def anybody(self, settings: Settings) -> Settings:
        """Return the same settings for the listener that demands nothing."""
        return settings.model_copy(update={"bootstrap": self.open, "kafka": {}})


def openssl(folder: Path, line: str) -> None:
    subprocess.run(["openssl", *line.split()], cwd=folder, check=True, capture_output=True)


def make_certificates(folder: Path) -> None:
    """Make two authorities, `ca` and `stranger`, and what `ca` signed: `broker` and `client`, whose key has KEY."""
    for name in ("ca", "stranger"):
        openssl(
            folder, f"req -x509 -newkey rsa:2048 -nodes -keyout {name}.key -out {name}.pem -days 2 -subj /CN={name}"
        )
    (folder / "names").write_text("subjectAltName=IP:127.0.0.1\n")
    for name in ("broker", "client"):
        openssl(folder, f"req -newkey rsa:2048 -nodes -keyout {name}.open -out {name}.csr -subj /CN={name}")
        signed = f"x509 -req -in {name}.csr -CA ca.pem -CAkey ca.key -CAcreateserial -out {name}.pem -days 2"
        openssl(folder, f"{signed} -extfile names")
    openssl(folder, f"pkcs8 -topk8 -in client.open -out client.key -passout pass:{KEY}")
    (folder / "store.pem").write_text((folder / "broker.open").read_text() + (folder / "broker.pem").read_text())


@pytest.fixture(scope="module")
def demanding(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demanding]:
    folder = tmp_path_factory.mktemp("certificates")
    make_certificates(folder)
    sasl, certificate = (f"127.0.0.1:{free_port()}" for _ in range(2))
    listeners, of_sasl = f"SASL_SSL://{sasl},SSL://{certificate}", "listener.name.sasl_ssl"
    properties = {
        "listeners": listeners,
        "advertised.listeners": listeners,
        "listener.security.protocol.map": "SASL_SSL:SASL_SSL,SSL:SSL",
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": str(folder / "store.pem"),
        "ssl.truststore.type": "PEM",
        "ssl.truststore.location": str(folder / "ca.pem"),
        "listener.name.ssl.ssl.client.auth": "required",
        f"{of_sasl}.sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-512,OAUTHBEARER",
        f"{of_sasl}.plain.sasl.jaas.config": f'{MODULES}.plain.PlainLoginModule required user_penchant="{PLAIN}";',
        f"{of_sasl}.scram-sha-512.sasl.jaas.config": f"{MODULES}.scram.ScramLoginModule required;",
        # Tokens without signatures: what a test may take, and nobody else.
        f"{of_sasl}.oauthbearer.sasl.jaas.config": f"{MODULES}.oauthbearer.OAuthBearerLoginModule required "
        'unsecuredLoginStringClaim_sub="broker";',
    }
    users = [f"SCRAM-SHA-512=[name=penchant,password={SCRAM}]"]
    with EmbeddedBroker.start(tmp_path_factory.mktemp("demanding"), None, properties, users) as broker:
        yield Demanding(folder, broker.bootstrap, sasl, certificate)


def test_the_broker_does_demand_it(demanding: Demanding) -> None:
    trusting: dict[str, Any] = {"ssl.ca.location": str(demanding.folder / "ca.pem"), "log_level": 0}
    for bootstrap in (demanding.sasl, demanding.certificate):
        for more in ({}, {"security.protocol": "SSL", **trusting}):
            with pytest.raises(KafkaException):
                AdminClient({"bootstrap.servers": bootstrap, "log_level": 0, **more}).list_topics(timeout=2)


@pytest.mark.parametrize("way", WAYS)
def test_events_are_answered(demanding: Demanding, way: str) -> None:
    settings, sent = demanding.settings(way), events(20)
    anybody = demanding.anybody(settings)
    send(anybody, settings.events_topic, sent)
    with running(make(settings)) as loop:
        turn_until(loop, 20)
        assert loop.health.ready
    assert [event for event, _ in lists(anybody)] == ids(sent)


def test_the_commands_get_the_properties_too(demanding: Demanding, tmp_path: Path) -> None:
    settings = demanding.settings("SCRAM-SHA-512")
    wanted = topics.wanted_by(settings)
    assert topics.apply(settings.bootstrap, wanted, settings.kafka) == ["every topic is as it should be"]
    assert not topics.plan(settings.bootstrap, settings.app_id, wanted, settings.kafka)[0].startswith(("+", "!"))
    click = Click(id="e", user="u", at_ms=1_700_000_000_000, item="i1")
    send_events(settings.bootstrap, settings.events_topic, [click], kafka=settings.kafka)
    found = check(settings.bootstrap, settings.events_topic, 10, settings.decode, settings.kafka)
    assert found.accepted == {"click": 1}
    lines = doctor.run(settings.model_copy(update={"bundle": tmp_path}))
    assert [line.ok for line in lines if line.subject == "broker"] == [True]


@pytest.mark.parametrize(
    ("way", "password", "ca", "said"),
    [
        ("PLAIN", WRONG, "ca", "SASL authentication error"),
        ("SCRAM-SHA-512", WRONG, "ca", "SASL authentication error"),
        ("SCRAM-SHA-512", None, "stranger", "certificate could not be verified"),
    ],
)
def test_who_is_refused_ends_and_says_why(
    demanding: Demanding, way: str, password: str | None, ca: str, said: str
) -> None:
    settings = demanding.settings(way, password, ca)
    start = time.monotonic()
    with running(make(settings)) as loop:
        why = turn_until_fatal(loop)
    assert time.monotonic() - start < 20
    assert said in why
    assert "docs/security.md" in why
    for secret in (PLAIN, SCRAM, WRONG):
        assert secret not in why


def serve(settings: Settings, demanding: Demanding, way: str, password: str | None, bundle: Path, folder: Path,
          monkeypatch: pytest.MonkeyPatch) -> Serve:  # fmt: skip
    """Start `serve`, told of Kafka's properties by its environment."""
    told = demanding.told(way, password)
    monkeypatch.setenv("PENCHANT_KAFKA", json.dumps(told["kafka"]))
    monkeypatch.setenv("PENCHANT_KAFKA_SECRETS", json.dumps(told["kafka_secrets"], default=str))
    settings.model_fields_set.difference_update({"kafka", "kafka_secrets"})
    return Serve(settings, bundle, folder)


def test_the_process_shows_no_secret(
    demanding: Demanding, shipped: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = demanding.settings("SCRAM-SHA-512")
    with serve(settings, demanding, "SCRAM-SHA-512", None, shipped, tmp_path, monkeypatch) as process:
        send(demanding.anybody(settings), settings.events_topic, events(5))
        wait_for(lambda: process.value("penchant_recommendations_total") == 5, process.text())
        pages = [process.get(path)[1] for path in ("/metrics", "/readyz", "/healthz")]
        assert process.end() == 0
        assert process.said("warning", "error", "critical") == []
        assert all(SCRAM not in text for text in (*pages, process.text()))


def test_the_process_ends_where_the_password_is_wrong(
    demanding: Demanding, shipped: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = demanding.settings("SCRAM-SHA-512")
    with serve(settings, demanding, "SCRAM-SHA-512", WRONG, shipped, tmp_path, monkeypatch) as process:
        assert process.process.wait(SECONDS) == 1
        said = process.said("warning", "error", "critical")
        assert len(said) == 1
        assert "SASL authentication error" in said[0]
        assert WRONG not in process.text()


@pytest.mark.parametrize(("password", "ca", "said"), [(WRONG, "ca", "SASL auth"), (None, "stranger", "certificate")])
def test_doctor_finds_it(demanding: Demanding, tmp_path: Path, password: str | None, ca: str, said: str) -> None:
    settings = demanding.settings("PLAIN", password, ca).model_copy(update={"bundle": tmp_path})
    lines = [str(line) for line in doctor.run(settings)]
    broker = [line for line in lines if line.startswith("FAIL  broker")]
    assert len(broker) == 1
    assert WRONG not in "".join(lines)
    assert said in broker[0]


def test_one_that_was_let_in_before_is_patient(demanding: Demanding, monkeypatch: pytest.MonkeyPatch) -> None:
    """A broker that starts may not know its users yet; and an instance that ends helps nobody."""
    loop = make(demanding.settings("SCRAM-SHA-512", WRONG))
    heard = loop._consumer._heard  # type: ignore[attr-defined]
    with running(loop):
        heard.well()
        for _ in range(2):
            loop.turn()
            assert "SASL authentication error" in loop.health.reason
        monkeypatch.setattr("consumer.security.PATIENCE_SECONDS", 1.0)
        with pytest.raises(PenchantError, match="trust each other"):
            loop.turn()
