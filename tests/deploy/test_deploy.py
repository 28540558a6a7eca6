"""Container files, compose, Prometheus and Grafana agree with each other, with the settings and with the metrics."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped,unused-ignore]
from prometheus_client import Counter

from consumer.broker import KAFKA_VERSION
from consumer.drift import DETECTORS, SIGNALS, Detection
from consumer.http import Health, answer
from consumer.metrics import Metrics
from consumer.settings import Settings
from consumer.topics import wanted_by

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
DOCKERFILE = DEPLOY / "Dockerfile"
DASHBOARD = DEPLOY / "grafana" / "dashboards" / "penchant.json"
YAMLS = sorted([*DEPLOY.rglob("*.yaml"), *DEPLOY.rglob("*.yml")])
SELECTOR = re.compile(r"(penchant_\w+)(?:\{([^}]*)\})?")


def _yaml(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def _service(name: str) -> dict[str, Any]:
    service: dict[str, Any] = _yaml(DEPLOY / "compose.yaml")["services"][name]
    return service


def _instructions() -> list[str]:
    """Return the Dockerfile's instructions, one a line, without comments."""
    lines = [line for line in DOCKERFILE.read_text(encoding="utf-8").splitlines() if not line.lstrip().startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ")
    return [" ".join(line.split()) for line in joined.splitlines() if line.strip()]


def _environment() -> dict[str, str]:
    """Return what the Dockerfile's last stage sets."""
    instructions = _instructions()
    start = max(i for i, line in enumerate(instructions) if line.startswith("FROM "))
    pairs = [line.removeprefix("ENV ").split() for line in instructions[start:] if line.startswith("ENV ")]
    return dict(pair.split("=", 1) for line in pairs for pair in line)


def _series() -> dict[str, set[str]]:
    """Return the names of all series that the registry exposes, with their labels."""
    metrics = Metrics()
    for metric in vars(metrics).values():
        if isinstance(metric, Counter):
            try:
                metric.inc(0)
            except ValueError:  # has a label
                metric.labels(*["any"] * len(metric._labelnames)).inc(0)
    metrics.drifts(
        dict.fromkeys(SIGNALS, 0.0),
        [Detection(signal, detector, 0.0, 0.0, 0) for signal in SIGNALS for detector in DETECTORS],
    )
    metrics.model.info({"version": "any"})
    metrics.build.info({"version": "any"})
    found: dict[str, set[str]] = {}
    for family in metrics.registry.collect():
        for sample in family.samples:
            found.setdefault(sample.name, set()).update(sample.labels)
    return found


def _queries() -> Iterator[tuple[str, str]]:
    for panel in json.loads(DASHBOARD.read_text(encoding="utf-8"))["panels"]:
        for target in panel["targets"]:
            yield panel["title"], target["expr"]
    for name in _yaml(DEPLOY / "prometheus" / "prometheus.yml")["rule_files"]:
        for group in _yaml(DEPLOY / "prometheus" / name)["groups"]:
            for rule in group["rules"]:
                yield rule["alert"], rule["expr"]


def _pins(path: Path) -> dict[str, set[str]]:
    """Return the hashes of every pin (with its marker) of a requirements file."""
    pins: dict[str, set[str]] = {}
    pin = ""
    for line in path.read_text(encoding="utf-8").splitlines():
        text = line.strip().removesuffix("\\").strip()
        if text.startswith("--hash="):
            pins[pin].add(text)
        elif text and not text.startswith("#"):
            pin = text.partition(" ;")[0]
            pins.setdefault(pin, set())
    return pins


@pytest.mark.parametrize("path", YAMLS, ids=lambda path: str(path.relative_to(DEPLOY)))
def test_yaml_parses(path: Path) -> None:
    assert isinstance(_yaml(path), dict)


def test_every_query_names_series_and_labels_that_exist() -> None:
    series = _series()
    queries = list(_queries())
    assert len(queries) >= 5
    for title, expression in queries:
        selectors = SELECTOR.findall(expression)
        assert selectors, f"{title}: no series in {expression}"
        labels: set[str] = set()
        for name, matchers in selectors:
            assert name in series, f"{title}: the consumer exposes no {name}"
            assert set(re.findall(r"(\w+)\s*[=!]", matchers)) <= series[name], f"{title}: {expression}"
            labels |= series[name]
        for group in re.findall(r"by \(([^)]*)\)", expression):
            assert {label.strip() for label in group.split(",")} <= labels, f"{title}: {expression}"
        assert expression.count("(") == expression.count(")")


def test_the_check_of_queries_sees_a_wrong_name() -> None:
    assert "penchant_events" not in _series()  # Prometheus' client adds _total
    assert "penchant_event_to_commit_seconds_bucket" in _series()


def test_the_dashboard_uses_the_provisioned_data_source_and_folder() -> None:
    provisioning = DEPLOY / "grafana" / "provisioning"
    (source,) = _yaml(provisioning / "datasources" / "prometheus.yaml")["datasources"]
    dashboard = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    used = {target["datasource"]["uid"] for panel in dashboard["panels"] for target in panel["targets"]}
    assert used == {source["uid"]}
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])
    (provider,) = _yaml(provisioning / "dashboards" / "penchant.yaml")["providers"]
    assert any(mount.split(":")[1] == provider["options"]["path"] for mount in _service("grafana")["volumes"])


def test_the_image_runs_as_somebody_without_rights() -> None:
    instructions = _instructions()
    last = max(i for i, line in enumerate(instructions) if line.startswith("FROM "))
    users = [line.split()[1] for line in instructions[last:] if line.startswith("USER ")]
    assert users
    assert users[-1].partition(":")[0] not in {"root", "0"}
    assert sum(line.startswith("FROM ") for line in instructions) == 2


def test_the_image_has_no_torch_and_nothing_unhashed() -> None:
    assert not re.search(r"torch|\[train\]|\[demo\]|\[dev\]|transformers", " ".join(_instructions()))
    pins = _pins(DEPLOY / "requirements-serve.txt")
    names = {pin.partition("==")[0] for pin in pins}
    assert not {name for name in names if name.startswith(("torch", "transformers", "nvidia-", "triton"))}
    for step in re.findall(r"pip (?:install|wheel) [^&]*", " ".join(_instructions())):
        assert "--require-hashes" in step or "--no-deps" in step, step


@pytest.mark.parametrize("name", ["requirements-serve.txt", "requirements-build.txt"])
def test_pins_are_those_of_the_project(name: str) -> None:
    everything = _pins(ROOT / "requirements.txt")
    for pin, hashes in _pins(DEPLOY / name).items():
        assert hashes, f"{pin} has no hash"
        assert hashes <= everything.get(pin, set()), f"{pin}: make {name} anew, see deploy/README.md"


def test_every_dependency_of_the_package_is_pinned() -> None:
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    block = project.partition("\ndependencies = [")[2].partition("\n]")[0]
    wanted = set(re.findall(r'^\s*"([A-Za-z0-9-]+)', block, re.MULTILINE))
    assert "confluent-kafka" in wanted
    assert wanted <= {pin.partition("==")[0] for pin in _pins(DEPLOY / "requirements-serve.txt")}


def test_the_health_check_asks_what_the_server_answers() -> None:
    (check,) = [line for line in _instructions() if line.startswith("HEALTHCHECK ")]
    assert "/healthz" in check
    assert answer("/healthz", Metrics().registry, Health())[0] == 200
    command = json.loads(check.partition(" CMD ")[2])
    compile(command[2], "healthcheck", "exec")


def test_only_the_container_listens_everywhere() -> None:
    assert Settings.model_fields["http_host"].default == "127.0.0.1"
    assert _environment()["PENCHANT_HTTP_HOST"] == "0.0.0.0"
    for name, service in _yaml(DEPLOY / "compose.yaml")["services"].items():
        for port in service.get("ports", []):
            assert port.startswith("127.0.0.1:"), f"{name} publishes {port} to the network"


def test_settings_in_the_environment_exist_and_are_valid() -> None:
    services = _yaml(DEPLOY / "compose.yaml")["services"]
    environments = [service.get("environment", {}) for service in services.values()]
    for environment in [_environment(), *environments]:
        ours = {name: value for name, value in environment.items() if name.startswith("PENCHANT_")}
        fields = {name.removeprefix("PENCHANT_").lower(): value for name, value in ours.items()}
        assert fields.keys() <= Settings.model_fields.keys()
        Settings(**fields)


def test_compose_fits_together() -> None:
    serve, topics, kafka = _service("serve"), _service("topics"), _service("kafka")
    assert kafka["image"] == f"apache/kafka:{KAFKA_VERSION}"
    advertised = kafka["environment"]["KAFKA_ADVERTISED_LISTENERS"]
    for service in (serve, topics):
        assert f"://{service['environment']['PENCHANT_BOOTSTRAP']}" in advertised
    assert serve["depends_on"]["topics"]["condition"] == "service_completed_successfully"
    assert topics["command"][:2] == ["topics", "apply"]
    (bundle,) = [mount for mount in serve["volumes"] if isinstance(mount, dict)]
    assert bundle["target"] == serve["environment"]["PENCHANT_BUNDLE"]
    assert bundle["read_only"] is True
    # Topics are made with the settings that serve reads them with.
    names = ("PENCHANT_APP_ID", "PENCHANT_EVENTS_TOPIC", "PENCHANT_ITEMS_TOPIC")
    made, read = (
        Settings(**{name.removeprefix("PENCHANT_").lower(): env[name] for name in names if name in env})
        for env in (topics["environment"], serve["environment"])
    )
    assert wanted_by(made) == wanted_by(read)


def test_prometheus_scrapes_the_port_that_serve_listens_on() -> None:
    (job,) = _yaml(DEPLOY / "prometheus" / "prometheus.yml")["scrape_configs"]
    port = _service("serve")["environment"]["PENCHANT_HTTP_PORT"]
    assert job["static_configs"] == [{"targets": [f"serve:{port}"]}]


def test_prometheus_finds_its_rules_where_compose_puts_them() -> None:
    mounts = {mount.split(":")[0]: mount.split(":")[1] for mount in _service("prometheus")["volumes"]}
    there = mounts["./prometheus/prometheus.yml"].rpartition("/")[0]
    for name in _yaml(DEPLOY / "prometheus" / "prometheus.yml")["rule_files"]:
        assert mounts[f"./prometheus/{name}"] == f"{there}/{name}"
