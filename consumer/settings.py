"""The settings: a TOML file, overridden by PENCHANT_* variables; frozen, read once."""

import hashlib
import json
import tomllib
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, ValidationError, ValidationInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, SettingsError

from consumer import security
from consumer.mapping import Mapping
from model.errors import Fatal
from model.events import Event, decode_event

APP_ID = r"^[A-Za-z0-9._-]{1,100}$"
_MILLISECONDS = range(10**11, 10**13)
"""1973 to 2286: what is below was meant as seconds, what is above as micro- or nanoseconds."""


def _start(value: object) -> object:
    """Return `earliest`, `latest` or milliseconds since 1970; raises `ValueError`."""
    if isinstance(value, str):
        value = value.strip()
        if value in ("earliest", "latest"):
            return value
        with suppress(ValueError):  # told below
            value = int(value) if value.lstrip("-").isdecimal() else datetime.fromisoformat(value)
    if isinstance(value, datetime):  # TOML has times of its own
        if value.tzinfo is None:
            raise ValueError("a time needs its zone (2026-11-24T00:00:00Z)")
        value = int(value.timestamp() * 1000)
    if not isinstance(value, int) or isinstance(value, bool):
        raise ValueError("takes earliest, latest, a time (2026-11-24T00:00:00Z) or milliseconds since 1970")
    if value not in _MILLISECONDS:
        raise ValueError("takes milliseconds since 1970, from 1973 on")
    return value


def _kafka(value: object) -> object:
    """Return librdkafka's properties; raises `ValueError`, which never tells a value."""
    if not isinstance(value, dict) or not all(map(security.is_property, value.values())):
        raise ValueError('takes names in quotes, each with a value: "security.protocol" = "SSL"')
    return value


def _with_secrets(value: dict[str, security.Value], info: ValidationInfo) -> dict[str, security.Value]:
    return security.properties(value, info.data.get("kafka_secrets", {}))


class Settings(BaseSettings):
    """Everything that `serve` can be told."""

    model_config = SettingsConfigDict(env_prefix="PENCHANT_", frozen=True, extra="forbid", hide_input_in_errors=True)

    app_id: str = Field(default="penchant", pattern=APP_ID)
    """Prefixes group, topics and transactional ids: two deployments with two names never meet."""
    ordinal: int = Field(default=0, ge=0)
    """Number of this instance: names its producer (a second one with the same number is fenced off)."""
    bootstrap: str = Field(default="localhost:9092", min_length=1)
    events_topic: str = Field(default="events", min_length=1)
    items_topic: str = Field(default="items", min_length=1)
    bundle: Path = Path("models/current")
    registry: str | None = None
    """Where models are published (a folder, or s3://bucket/prefix): serve follows its current version. None: the bundle
    at `bundle` serves."""
    follow_seconds: float = Field(default=5.0, ge=0.1, le=3600)
    """How often to ask the registry which version is current."""
    probation_share: float = Field(default=0.1, ge=0, le=1)
    """Of the events, after a swap, that the model before ranks, too, so that the two can be compared ('penchant models
    judge'); the same for an apprentice. 0: none."""
    probation_events: int = Field(default=5000, ge=0)
    """After so many such events of an instance the model before is let go."""
    apprentice: str | None = None
    """A version in the registry that never serves: it ranks a share of the events, and is compared. The lists that it
    would have shown go to APP_ID.apprentice."""
    drift_evaluations: int = Field(default=200, ge=0)
    """So many evaluations make one value for the detectors of drift; the first 20 values only give the scale. 0: none
    is looked for."""
    tune_requests: bool = False
    """Where drift is detected, write a record to APP_ID.tune-requests; nothing is tuned or promoted by that."""
    tune_cooldown_seconds: float = Field(default=86_400.0, ge=0)
    """In stream time, from one such record of an instance to its next."""
    taxonomy: Path | None = None
    start: Annotated[Literal["earliest", "latest"] | int, BeforeValidator(_start)] = "earliest"
    """Where to begin, if there are neither offsets nor state: there, or at the first event since a time (ISO 8601
    with its zone, or milliseconds since 1970)."""
    predecessor: str | None = Field(default=None, pattern=APP_ID)
    """The app_id that this one replaces: what that one answered is folded, not answered again. `penchant rebuild`
    sets it."""
    poll_events: int = Field(default=1000, ge=1, le=2000)
    """At most so many events a transaction."""
    linger_seconds: float = Field(default=0.0, ge=0, le=5)
    """How long to wait for more events once there is one. While a transaction commits, events gather anyway."""
    snapshot_every: int = Field(default=20_000, ge=1)
    """Events between two snapshots of a partition's shared tables."""
    delta_ring: int = Field(default=4096, ge=8)
    """Keys that deltas go round on; snapshots come at least every half of it."""
    max_failures: int = Field(default=10, ge=0)
    """So many events close together (100) may make the fold fail and become dead letters; then it stops."""
    max_dead_run: int = Field(default=100, ge=0)
    """So many records of a partition, one after another, may be dead letters; then it stops. 0: no limit."""
    max_dead_share: float = Field(default=0.5, ge=0, le=1)
    """At most this share of a partition's newest 1,000 records may be dead letters; then it stops. 0: no limit."""
    cached_texts: int = Field(default=50_000, ge=1)
    length: int = Field(default=10, ge=1, le=200)
    reasons: int = Field(default=3, ge=0, le=20)
    interests_every: int = Field(default=10, ge=1)
    modalities: tuple[str, ...] = ()
    """Vectors of items that count besides their text: ["image", "audio"]; one feature each."""
    ttl_days: int = Field(default=365, ge=1)
    """Users unheard of for so long, in stream time, are forgotten."""
    mmr: float = Field(default=0.0, ge=0, le=1)
    seed: int = 0
    coalesce: bool = False
    """Send only the newest list of a user in a transaction; what is learnt and what a list holds stay the same."""
    publish_max_age_seconds: float = Field(default=0.0, ge=0)
    """Lists for events older than this, by their record's time, are not sent: nobody waits for them any more, as after
    an outage. What is learnt stays the same. 0: all are sent."""
    group_protocol: Literal["classic", "consumer"] = "classic"
    """`classic` with static membership: a killed instance is back at once; `consumer` (Kafka >= 4) waits for the
    group's session time-out first."""
    session_timeout_seconds: int | None = Field(default=None, ge=6, le=1800)
    """An instance unheard of for so long is dead, and others take its partitions. None: 30 s with `classic`; with
    `consumer` what the group has on the broker (45 s unless somebody changed it)."""
    http_host: str = "127.0.0.1"
    http_port: int = Field(default=9100, ge=0, le=65535)
    kafka_secrets: dict[str, Path] = {}
    """More properties of librdkafka: of each the file that its value is in."""
    kafka: Annotated[dict[str, security.Value], BeforeValidator(_kafka), AfterValidator(_with_secrets)] = Field(
        default={}, validate_default=True, exclude=True
    )
    """Properties of librdkafka for every client: TLS, SASL, ...; once read, those of `kafka_secrets` are among them."""
    mapping: Mapping | None = None
    """How foreign JSON becomes events; none: the events are Penchant's own."""

    @property
    def decode(self) -> Callable[[bytes | None, int | None], Event]:
        """What turns a record's value and timestamp into an event, or raises `BadEvent`."""
        return decode_event if self.mapping is None else self.mapping.decode

    @property
    def recommendations_topic(self) -> str:
        """Lists, keyed by user."""
        return f"{self.app_id}.recommendations"

    @property
    def interests_topic(self) -> str:
        """What each user likes, keyed by user."""
        return f"{self.app_id}.interests"

    @property
    def dead_letters_topic(self) -> str:
        """Records that can never be handled."""
        return f"{self.app_id}.dead-letters"

    @property
    def facts_topic(self) -> str:
        """What each partition tells the others: who engaged what after what, without names."""
        return f"{self.app_id}.facts"

    @property
    def tune_requests_topic(self) -> str:
        """Where drift was detected, keyed by app_id; only with `tune_requests`."""
        return f"{self.app_id}.tune-requests"

    @property
    def apprentice_topic(self) -> str:
        """Lists that the apprentice would have shown, keyed by user; only with `apprentice`."""
        return f"{self.app_id}.apprentice"

    @property
    def state_topic(self) -> str:
        """The changelog; its partition n belongs to partition n of the events."""
        return f"{self.app_id}.state"

    def outcome_hash(self) -> str:
        """Return a hash of the settings on which lists depend; recorded with every transaction."""
        decisive: tuple[object, ...] = (
            self.length, self.reasons, self.interests_every, self.mmr, self.seed, self.coalesce, self.modalities,
            self.ttl_days,
        )  # fmt: skip
        if self.mapping is not None:  # else the hash is what it was before there were mappings
            decisive += (json.dumps(self.mapping.model_dump(), sort_keys=True),)
        return hashlib.sha256(repr(decisive).encode()).hexdigest()[:12]

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Let the environment win over the file."""
        return (env_settings, init_settings)


def load(path: Path | None = None) -> Settings:
    """Return the settings in a TOML file (none: defaults), overridden by PENCHANT_* variables.

    Raises:
        Fatal: the file is missing, is no TOML, or a value is wrong; the text says which.
    """
    values: dict[str, Any] = {}
    if path is not None:
        try:
            values = tomllib.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise Fatal(f"cannot read settings {path} ({error.strerror}); give --config an existing file") from None
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise Fatal(f"settings {path} are no TOML: {error}; mend the file") from None
        inline = values.get("kafka")
        for name in filter(security.is_secret, inline if isinstance(inline, dict) else ()):
            raise Fatal(
                f"settings {path}: kafka: {name} is a secret; it goes into a file of its own, named in kafka_secrets, "
                "or into the variable PENCHANT_KAFKA"
            )
    try:
        settings = Settings(**values)
    except ValidationError as error:
        raise Fatal(_advice(error)) from None
    except SettingsError as error:
        raise Fatal(
            f"settings: {error}; PENCHANT_KAFKA, PENCHANT_KAFKA_SECRETS and PENCHANT_MAPPING must be JSON objects"
        ) from None
    security.check(settings.kafka)
    if settings.predecessor == settings.app_id:
        raise Fatal(f"settings: predecessor is {settings.app_id}, as is app_id; a rebuild needs an app_id of its own")
    if settings.tune_requests and not settings.drift_evaluations:
        raise Fatal("settings: tune_requests asks for nothing while drift_evaluations is 0; give it, too")
    if settings.apprentice and settings.registry is None:
        raise Fatal("settings: apprentice is a version in a registry, and registry is not set; give it, too")
    names = [settings.events_topic, settings.items_topic, settings.recommendations_topic, settings.interests_topic,
             settings.dead_letters_topic, settings.facts_topic, settings.tune_requests_topic,
             settings.apprentice_topic, settings.state_topic]  # fmt: skip
    if len(set(names)) < len(names):
        raise Fatal(f"settings: two topics have one name, among {', '.join(names)}; events and items need their own")
    return settings


def _advice(error: ValidationError) -> str:
    said = []
    for wrong in error.errors(include_url=False):
        name = ".".join(str(part) for part in wrong["loc"])
        if wrong["loc"][:1] == ("mapping",):
            said.append(f"{name}: {wrong['msg'].removeprefix('Value error, ')}"[:300])
        elif str(wrong["loc"][0]).startswith("kafka"):  # what was given may be a secret
            said.append(f"{name} (or PENCHANT_{name.upper()}): {wrong['msg'].removeprefix('Value error, ')}"[:300])
        elif wrong["type"] == "extra_forbidden":
            said.append(f"there is no setting {name!r} (settings are: {', '.join(sorted(Settings.model_fields))})")
        else:
            what = wrong["msg"].removeprefix("Value error, ")
            said.append(f"{name} (or PENCHANT_{name.upper()}): {what}, not {wrong['input']!r}"[:300])
    return "settings: " + "; ".join(said)
