"""The command `penchant tune`; its work is in `tuning`, imported when it runs."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from consumer.output import writable
from model.errors import Fatal, PenchantError

if TYPE_CHECKING:
    from consumer.tuning import Result
    from export.registry import Registry


TABLE_WIDTH = 132
"""Narrower, and its figures would be cut off."""


def tune(
    from_dataset: Annotated[
        str | None, typer.Option(help="ml-100k, zh, or a folder of events.jsonl, items.jsonl; else Kafka.")
    ] = None,
    events: Annotated[int, typer.Option(min=1000, help="From Kafka: so many of the newest.")] = 200_000,
    model: Annotated[Path | None, typer.Option(help="The Hugging Face folder to begin from; else MiniLM.")] = None,
    bundle: Annotated[Path | None, typer.Option(help="What serves; else the registry's current, else MiniLM.")] = None,
    registry: Annotated[
        str | None, typer.Option(help="Publish there, and promote what passes the gate; else the settings'.")
    ] = None,
    method: Annotated[
        str, typer.Option(help="What is trained: last-0 (a projection alone), last-N layers, lora, full.")
    ] = "last-0",
    epochs: Annotated[int, typer.Option(min=1, help="Passes over all texts, where the encoder itself moves.")] = 10,
    mlm_epochs: Annotated[
        int, typer.Option(min=0, help="First let it guess masked words of the items' texts and searches, so often.")
    ] = 0,
    hold_out: Annotated[float, typer.Option(min=0.05, max=0.9, help="The last events, for the gate alone.")] = 0.3,
    held_items: Annotated[float, typer.Option(min=0.01, max=0.4, help="Items never trained on, for the gate.")] = 0.1,
    margin: Annotated[float, typer.Option(min=0, max=1, help="Of NDCG@10 that may be lost at most.")] = 0.02,
    margin_unseen: Annotated[float, typer.Option(min=0, max=1, help="The same, on new and held-out items.")] = 0.05,
    cost: Annotated[float, typer.Option(min=1, help="Times as dear as what serves, at most.")] = 2.5,
    force: Annotated[bool, typer.Option("--force", help="Promote whatever the gate says; it is recorded.")] = False,
    seed: Annotated[int, typer.Option(help="Of what is held out, and of the training.")] = 0,
    work: Annotated[Path, typer.Option(help="Examples, checkpoints, the bundle and its report go there.")] = Path(
        "runs/tune"
    ),
    json: Annotated[Path | None, typer.Option(callback=writable, help="Write the report there, too.")] = None,
    replay: Annotated[
        list[Path] | None, typer.Option(help="Examples of earlier runs (file, or work folder) to train on again.")
    ] = None,
    replay_share: Annotated[
        float, typer.Option(min=0.01, max=0.9, help="Of what is trained on: so many of those at most.")
    ] = 0.2,
    picture: Annotated[
        Path | None,
        typer.Option(
            callback=writable, help="Draw there (.svg) how both do by age of the item: NDCG@10 by engagements."
        ),
    ] = None,
    config: Annotated[
        Path | None, typer.Option("--config", "-c", help="TOML file of settings; PENCHANT_* variables override it.")
    ] = None,
) -> None:
    """Let the encoder learn from what users chose, and let it serve only if it is no worse than what does.

    Examples come from the fold that serves: what a user had liked, and what came next. Of the events, the last ones
    are for the gate alone; so are some items. The gate runs both models through the same fold, over these events,
    and compares target by target. Exit 0: it passed. Exit 3: it did not; the bundle is kept, and not promoted.

    Without a registry nothing is published. Killed halfway, the same command goes on after the last epoch.
    Needs the extra 'train', and 'demo' without --model.

    For example: [bold]penchant tune --from-dataset ml-100k --registry /srv/penchant/registry[/]
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise Fatal("tune runs in one process, and torchrun started several: without it, 'penchant tune ...'")
    try:
        from consumer.picture import drawn
        from consumer.tuning import Job, run
        from model.training.adaptation import Method
        from model.training.replay import read
        from model.training.tuning import Tuning
    except ModuleNotFoundError as error:
        raise Fatal(f"no module {error.name!r}: install the extra 'train' (PyTorch)") from None
    from rich.console import Console

    from consumer.serve import fold_settings
    from consumer.settings import load
    from consumer.shipped import shipped_bundle, shipped_model
    from consumer.window import from_dataset as dataset
    from consumer.window import from_kafka
    from export.bundle import Bundle
    from export.registry import Registry
    from model.gate import Margins

    if picture is not None and picture.suffix != ".svg":
        raise PenchantError(f"{picture}: the picture is an SVG; name it so")
    settings, console = load(config), Console(stderr=True)
    url = registry or settings.registry
    found = None if url is None else Registry.open(url)
    older = [one for path in replay or () for one in read(path)]
    tuning = Tuning(method=Method.parse(method), epochs=epochs, mlm_epochs=mlm_epochs, seed=seed)
    current = None if found is None else found.current()
    if bundle is None and found is not None and current is not None:
        serving = found.fetch(current.version, work / "serving")
    else:
        serving = Bundle.open(bundle or shipped_bundle(console))
    with _shown(console) as told:
        source = (
            dataset(from_dataset)
            if from_dataset is not None
            else from_kafka(settings, events, lambda done, of: told("reading", done, of))
        )
        job = Job(
            source, model or shipped_model(), serving, tuning, work, hold_out, held_items,
            Margins(margin, margin_unseen, cost), fold_settings(settings), settings.taxonomy, older, replay_share,
        )  # fmt: skip
        result = run(job, told, force)
    Console(width=TABLE_WIDTH).print(_table(result))
    if json is not None:
        json.write_text(_json(result.report))
    if picture is not None:
        picture.write_text(drawn(result.report["by_age"]), encoding="utf-8")
    typer.echo("\n".join(_said(result)))
    if found is not None and (result.decision.promote or force):
        _promote(found, result, None if current is None else current.number)
    elif found is None and result.decision.promote:
        typer.echo(f"Next: penchant models publish {result.bundle.path}, and promote it")
    raise typer.Exit(0 if result.decision.promote or force else 3)


def _promote(registry: "Registry", result: "Result", number: int | None) -> None:
    """Publish and promote, unless somebody else promoted meanwhile: then what was compared with no longer serves."""
    version = result.bundle.manifest.version
    if version in registry.published() and registry.manifest(version).tuning != result.bundle.manifest.tuning:
        raise Fatal(
            f"{version} is published already, with an earlier decision, and versions never change: "
            f"to have it serve all the same, penchant models promote {version}"
        )
    registry.publish(result.bundle.path)
    every = result.report["blend"]["all"]
    note = "tuned: NDCG@10 {:.4f} -> {:.4f} ({:+.4f} to {:+.4f})".format(
        every["before"], every["after"], *every["ci95"]
    ) + ("" if result.decision.promote else ", FORCED")
    pointer = registry.promote(version, number, note)
    typer.echo(f"{version} is current in {registry.url} (pointer {pointer.number}).")


def _said(result: "Result") -> list[str]:
    lines = [f"The bundle is {result.bundle.path} (version {result.bundle.manifest.version})."]
    if result.decision.promote:
        return [*lines, "The gate lets it serve."]
    return [*lines, "The gate does not let it serve:", *(f"  {reason}" for reason in result.decision.reasons)]


def _table(result: "Result") -> Any:
    from rich.table import Table

    table = Table(
        "ranked by", "targets", "n", "before", "after", "difference", "95% (paired)", "can show", "popularity",
        title="The gate: NDCG@10 of what serves (before) and of the candidate (after), on events that neither saw",
    )  # fmt: skip
    alone = {name: result.report[name] for name in ("warm", "held_out_items", "new_items")}
    for what, rows in (("text alone", alone), ("everything", result.report["blend"])):
        for name, row in rows.items():
            table.add_row(
                what, name.replace("_", " "), str(row["n"]), f"{row['before']:.4f}", f"{row['after']:.4f}",
                f"{row['difference']:+.4f}", "{:+.4f} to {:+.4f}".format(*row["ci95"]),
                f"{row['smallest_detectable']:.4f}", f"{row['popularity']:.4f}",
            )  # fmt: skip
        table.add_section()
    return table


def _json(report: dict[str, Any]) -> str:
    from json import dumps

    return dumps(report, indent=1) + "\n"


@contextmanager
def _shown(console: Any) -> Iterator[Callable[[str, int, int], None]]:
    """Show every part of the work: how far it is, how long it took, and how long it will still take."""
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (TextColumn("{task.description:<14}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
               TimeRemainingColumn())  # fmt: skip
    with Progress(*columns, console=console) as shown:
        tasks: dict[str, Any] = {}

        def told(what: str, done: int, of: int) -> None:
            if what not in tasks:
                tasks[what] = shown.add_task(what, total=of)
            shown.update(tasks[what], completed=done, total=of)

        yield told
