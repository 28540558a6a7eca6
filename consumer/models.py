"""`penchant models`: what is published in the registry, which version is current, and what it takes to change that."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from model.errors import BadBundle, Fatal

if TYPE_CHECKING:
    from export.bundle import Manifest
    from export.registry import Registry
    from export.registry_log import Pointer

app = typer.Typer(no_args_is_help=True, help="Models by version: publish them, say which is current, go back.")

Config = Annotated[
    Path | None, typer.Option("--config", "-c", help="TOML file of settings; PENCHANT_* variables override it.")
]
At = Annotated[
    str | None, typer.Option("--registry", help="A folder, or s3://bucket/prefix; overrides the setting registry.")
]
Note = Annotated[str, typer.Option(help="Kept in the log, for whoever asks why.")]
Expected = Annotated[
    int | None, typer.Option(min=0, help="Only if the pointer of this number (0: none) still counts; else exit 1.")
]


@app.command("list")
def models_list(registry: At = None, config: Config = None) -> None:
    """Name every published version, the newest export first; an asterisk is before the current one.

    Needs a registry. For example: [bold]penchant models list --registry /srv/penchant/registry[/]
    """
    found = _registry(registry, config)
    current = found.current()
    manifests = found.versions()
    if current is not None and current.version not in manifests:
        typer.echo(f"The current version, {current.version}, is not there: publish it again, or promote another one.")
    for version, manifest in reversed(manifests.items()):
        star = "*" if current is not None and version == current.version else " "
        forms = ",".join(sorted(manifest.forms))
        about = f"{manifest.dim} dimensions  {forms}  {manifest.items} texts along"
        typer.echo(f"{star} {version}  exported {manifest.created_at}  {about}")
    for version in sorted(set(found.published()) - manifests.keys()):
        typer.echo(f"! {version}  cannot be read; see: penchant models verify {version}")
    if not manifests:
        typer.echo(f"Nothing is published in {found.url}. Next: penchant models publish BUNDLE")


@app.command("show")
def models_show(
    version: Annotated[str | None, typer.Argument(help="Default: the current one.")] = None,
    registry: At = None,
    config: Config = None,
) -> None:
    """Print what a version says of itself, and when it was current.

    Needs a registry with that version. For example: [bold]penchant models show 0f3a9c52d1e7[/]
    """
    found = _registry(registry, config)
    history = found.history()
    if version is None:
        if not history:
            raise Fatal(f"{found.url}: no version is current; name one, or promote one (penchant models promote)")
        version = history[-1].version
    for name, value in _facts(found.manifest(version)).items():
        typer.echo(f"{name:<24}{value}")
    for pointer in history:
        if pointer.version == version:
            typer.echo(f"{'pointer ' + str(pointer.number):<24}{_said(pointer, history[-1])}")


@app.command("diff")
def models_diff(
    one: Annotated[str, typer.Argument(help="A version.")],
    other: Annotated[str, typer.Argument(help="Another one.")],
    registry: At = None,
    config: Config = None,
) -> None:
    """Print in what two versions differ: dimensions, parity, tools, files; a line for each, nothing where they agree.

    Needs a registry with both. For example: [bold]penchant models diff 0f3a9c52d1e7 77b0e1d4c9aa[/]
    """
    found = _registry(registry, config)
    a, b = _facts(found.manifest(one)), _facts(found.manifest(other))
    for name in dict.fromkeys((*a, *b)):
        if a.get(name) != b.get(name):
            typer.echo(f"{name:<24}{a.get(name, '-')} -> {b.get(name, '-')}")


@app.command("publish")
def models_publish(
    bundle: Annotated[Path, typer.Argument(help="The folder that penchant export wrote.")],
    registry: At = None,
    config: Config = None,
) -> None:
    """Verify a bundle and copy it into the registry, whole or not at all; what is current stays current.

    Needs a registry; publishing what is there already does nothing.

    For example: [bold]penchant models publish models/minilm --registry s3://models/penchant[/]
    """
    found = _registry(registry, config)
    version = found.publish(bundle)
    typer.echo(f"Published {version} in {found.url}. Next: penchant models promote {version}")


@app.command("promote")
def models_promote(
    version: Annotated[str, typer.Argument(help="The version that is to be current.")],
    note: Note = "",
    expected: Expected = None,
    registry: At = None,
    config: Config = None,
) -> None:
    """Make a published version the current one, which every serve that follows the registry then loads.

    Of two who promote at the same moment, one is refused. Scripts that decided by what they saw give --expected.

    Needs a registry with that version.

    For example: [bold]penchant models promote 0f3a9c52d1e7 --note "trained on October"[/]
    """
    found = _registry(registry, config)
    if expected is None:
        current = found.current()
        expected = 0 if current is None else current.number
    pointer = found.promote(version, expected or None, note)
    typer.echo(f"{version} is current in {found.url} (pointer {pointer.number}).")


@app.command("rollback")
def models_rollback(note: Note = "", expected: Expected = None, registry: At = None, config: Config = None) -> None:
    """Make the version before the current one current again; a second time goes one further back, not forth.

    Needs a registry with a version to go back to.

    For example: [bold]penchant models rollback --note "clicks fell by a third"[/]
    """
    found = _registry(registry, config)
    pointer = found.rollback(note, expected)
    typer.echo(f"{pointer.version} is current again in {found.url} (pointer {pointer.number}).")


@app.command("verify")
def models_verify(
    versions: Annotated[list[str] | None, typer.Argument(help="Default: all.")] = None,
    registry: At = None,
    config: Config = None,
) -> None:
    """Read every byte of versions and compare checksums; exits 1 if anything is not what was published.

    Needs a registry; from S3 everything is downloaded, and thrown away again.

    For example: [bold]penchant models verify --registry /srv/penchant/registry[/]
    """
    found = _registry(registry, config)
    bad = False
    for version in versions or found.published():
        try:
            found.verify(version)
            typer.echo(f"ok    {version}")
        except BadBundle as error:
            bad = True
            typer.echo(f"FAIL  {version}  {error}")
    raise typer.Exit(1 if bad else 0)


@app.command("prune")
def models_prune(
    keep: Annotated[int, typer.Option(min=1, help="So many of the newest, and so many to roll back along, stay.")] = 5,
    used: Annotated[list[str] | None, typer.Option(help="A version that is in use; may be given again.")] = None,
    offline: Annotated[
        bool, typer.Option("--offline", help="Do not ask Kafka; --used names all that is used.")
    ] = False,
    registry: At = None,
    config: Config = None,
) -> None:
    """Remove old versions; never the current one, those in use, or the last ones.

    Needs a registry and the right to delete, and a running Kafka: there the partitions of the settings' app_id noted
    which version they used last. What others use, who share the registry, is named with --used.

    For example: [bold]penchant models prune --keep 3 --used 0f3a9c52d1e7[/]
    """
    from consumer.settings import load
    from consumer.used import used_versions

    found, named = _registry(registry, config), frozenset(used or ())
    removed = found.prune(keep, named if offline else named | used_versions(load(config)))
    typer.echo(f"Removed from {found.url}: {', '.join(removed) or 'nothing'}")


@app.command("judge")
def models_judge(
    metrics: Annotated[
        list[str] | None, typer.Option(help="http://HOST:PORT/metrics of an instance; again for each.")
    ] = None,
    prometheus: Annotated[str | None, typer.Option(help="Or a Prometheus that scrapes them all.")] = None,
    role: Annotated[
        str, typer.Option(help="Compared with: before (the model before the swap), apprentice.")
    ] = "before",
    margin: Annotated[float, typer.Option(min=0, max=1, help="Share of NDCG@10 whose loss is bearable.")] = 0.02,
    act: Annotated[
        bool, typer.Option("--act", help="Roll back, if what serves is worse than what was before.")
    ] = False,
    registry: At = None,
    config: Config = None,
) -> None:
    """Say whether the model that serves is better than another that ranked the same events; exit 1 if it is worse.

    The difference of NDCG@10 comes with a 95% interval, events taken as independent. Worse: all of the interval is
    below 0. No worse: none of it is below the margin. Else it takes more events, and the status is 2.

    Needs running instances, or a Prometheus; with --act, a registry.

    For example: [bold]penchant models judge --metrics http://127.0.0.1:9100/metrics --act[/]
    """
    from consumer.judging import NEEDED, from_instances, from_prometheus, pairs_of, verdict

    if (prometheus is None) == (not metrics):
        raise Fatal("give --metrics of every instance, or --prometheus")
    if role not in NEEDED:
        raise Fatal(f"no role {role!r}: choose {' or '.join(NEEDED)}")
    if act and role != "before":
        raise Fatal("--act goes back to the model before: it needs --role before")
    found = pairs_of(from_instances(metrics) if metrics else from_prometheus(prometheus or ""), role)
    if not found:
        raise Fatal(
            f"nothing that users chose was ranked by a model in the role {role!r} yet: it takes {NEEDED[role]}, "
            "and then events"
        )
    pairs = found[0]
    said = verdict(pairs, margin)
    typer.echo(
        f"{pairs.serving} serves, {pairs.rival} is {role}: {pairs.events} events, NDCG@10 "
        f"{pairs.ours / pairs.events:.4f} and {pairs.theirs / pairs.events:.4f}\n"
        f"difference {said.mean:+.4f}, 95% from {said.low:+.4f} to {said.high:+.4f}; "
        f"so many events show differences from {said.detectable:.4f} on\n{said.decision}"
    )
    if pairs.lists:
        typer.echo(f"of {pairs.lists} lists, {100 * pairs.overlap / pairs.lists:.0f}% of the items would be the same")
    if said.decision == "worse" and act:
        models = _registry(registry, config)
        pointer = models.current()
        if pointer is None or pointer.version != pairs.serving:
            raise Fatal(f"{pairs.serving} is not current any more; nothing done")
        back = models.rollback(f"worse than {pairs.rival} by {-said.mean:.4f} NDCG@10", pointer.number)
        typer.echo(f"rolled back to {back.version}")
    raise typer.Exit({"worse": 1, "undecided": 2}.get(said.decision, 0))


def items_texts(source: str) -> list[str]:
    """Return what stands for each item of `ml-100k`, `zh`, a JSONL of items, or a folder of items.jsonl."""
    from consumer.datasets import load, load_jsonl

    path = Path(source)
    if path.is_dir():
        path /= "items.jsonl"
    # Only the items are wanted: no file of events has to be there.
    items, _ = load_jsonl(Path(os.devnull), path) if path.is_file() else load(source)
    return [item.content() for item in items]


@contextmanager
def progress(what: str) -> Iterator[Callable[[int, int], None]]:
    """Show on stderr how far something is that takes minutes, and how long it will still take."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as shown:
        task = shown.add_task(what, total=None)
        yield lambda done, of: shown.update(task, completed=done, total=of)


def _registry(url: str | None, config: Path | None) -> "Registry":
    from consumer.settings import load
    from export.registry import Registry

    at = url or load(config).registry
    if at is None:
        raise Fatal("no registry: give --registry URL, or set registry (PENCHANT_REGISTRY) to a folder or s3://...")
    return Registry.open(at)


def _facts(manifest: "Manifest") -> dict[str, str]:
    facts = {
        "version": manifest.version,
        "exported": manifest.created_at,
        "dimensions": str(manifest.dim) + (f", {manifest.learnt} of them learnt" if manifest.learnt else ""),
        "max_length": f"{manifest.max_length} tokens",
        "pooling": manifest.pooling,
        "texts along": str(manifest.items),
        "parity": f"{manifest.parity.max_abs_diff:.2g} over {manifest.parity.sentences} sentences",
        "opset": str(manifest.opset),
    }
    facts |= {f"form {name}": file for name, file in sorted(manifest.forms.items())}
    facts |= {f"tool {name}": version for name, version in sorted(manifest.tools.items())}
    return facts | {f"file {name}": f"sha256 {digest[:16]}" for name, digest in sorted(manifest.sha256.items())}


def _said(pointer: "Pointer", last: "Pointer") -> str:
    note = f"  {pointer.note!r}" if pointer.note else ""  # quoted: what is not printable is escaped
    return f"{pointer.at}  {pointer.why}{note}{'  (current)' if pointer == last else ''}"
