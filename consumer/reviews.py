"""The command `penchant reviews`: reviews that have stars, as labelled texts for `penchant classify`."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from consumer.outputs import file_to_write
from model.errors import Fatal
from model.events import Event, Forget, Review

if TYPE_CHECKING:
    from model.training.labelled import Labelled

LIKED, DISLIKED = 4, 2
"""Stars from which on a review is positive, and up to which it is negative; what lies between is neither."""


def reviews(
    file: Annotated[Path, typer.Argument(help="A JSONL of text and label, written anew.", callback=file_to_write)],
    stars: Annotated[bool, typer.Option("--stars", help="Label by stars, 1 to 5, not positive and negative.")] = False,
    from_dataset: Annotated[str | None, typer.Option(help="A folder of events.jsonl, items.jsonl; else Kafka.")] = None,
    events: Annotated[int, typer.Option(min=1, help="From Kafka: so many of the newest.")] = 200_000,
    config: Annotated[
        Path | None, typer.Option("--config", "-c", help="TOML file of settings; PENCHANT_* variables override it.")
    ] = None,
) -> None:
    """Write the reviews that have stars as texts with labels, for a head that then judges those without.

    Positive: four stars and more; negative: two and less. Users who asked to be forgotten are left out. Needs a running
    Kafka with events, or a data set.

    For example: [bold]penchant reviews reviews.jsonl && penchant classify reviews.jsonl --name sentiment[/]
    """
    import msgspec

    from consumer.settings import load
    from consumer.window import from_dataset as dataset
    from consumer.window import from_kafka

    settings = load(config)
    source = dataset(from_dataset) if from_dataset is not None else from_kafka(settings, events, lambda done, of: None)
    found = labelled(source.events, stars)
    if not found:
        raise Fatal(f"none of {len(source.events)} events is a review with text and stars; {file} is not written")
    file.write_bytes(b"".join(msgspec.json.encode(one) + b"\n" for one in found))
    counts = {label: sum(one.label == label for one in found) for label in sorted({one.label for one in found})}
    said = ", ".join(f"{count} {label}" for label, count in counts.items())
    typer.echo(f"{len(found)} texts in {file}: {said}. Next: penchant classify {file} --name sentiment")


def labelled(events: Iterable[Event], stars: bool = False) -> "list[Labelled]":
    """Return the texts of reviews that have stars, in order, without those of users who asked to be forgotten since.

    >>> reviews = [Review(id=str(n), user="u", at_ms=n, item="i", text=f"text {n}", value=n) for n in range(1, 6)]
    >>> [(one.text, one.label) for one in labelled(reviews)]
    [('text 1', 'negative'), ('text 2', 'negative'), ('text 4', 'positive'), ('text 5', 'positive')]
    >>> [one.label for one in labelled(reviews, stars=True)]
    ['1', '2', '3', '4', '5']
    """
    from consumer.labelled import NEGATIVE
    from model.heads import POSITIVE
    from model.training.labelled import Labelled

    by_user: dict[str, list[tuple[int, Labelled]]] = {}
    for number, event in enumerate(events):
        if isinstance(event, Forget):
            by_user.pop(event.user, None)
        elif isinstance(event, Review) and event.value is not None and event.text.strip():
            if stars:
                label = str(min(5, max(1, round(event.value))))
            elif DISLIKED < event.value < LIKED:
                continue
            else:
                label = POSITIVE if event.value >= LIKED else NEGATIVE
            by_user.setdefault(event.user, []).append((number, Labelled(event.text, label)))
    numbered = [pair for pairs in by_user.values() for pair in pairs]
    return [one for _, one in sorted(numbered, key=lambda pair: pair[0])]
