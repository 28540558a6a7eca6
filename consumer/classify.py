"""The commands `penchant classify` and `penchant sentiment`; their work is in `classifying`, imported when they run."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from consumer.output import writable
from model.errors import Fatal

SENTIMENT_HELP = """Do as classify does: tell positive from negative texts, by a fine-tuned BERT.

Needs the extra 'train', and 'demo' without --model. For example: [bold]penchant sentiment zh --out build/zh[/]"""


def classify(
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="SOURCE...",
            help="en (films), en-products, en-tweets, en-stars, en-sources, zh, or a JSONL FILE of text and label.",
        ),
    ],
    method: Annotated[
        str, typer.Option(help="What is trained: full, last-N layers (0: the head alone), lora.")
    ] = "full",
    model: Annotated[Path | None, typer.Option(help="A Hugging Face folder; else MiniLM, for zh none.")] = None,
    out: Annotated[Path | None, typer.Option(help="Export a bundle with the head there.")] = None,
    json: Annotated[Path | None, typer.Option(callback=writable, help="Write the figures there.")] = None,
    name: Annotated[str | None, typer.Option(help="Of a single head; else sentiment, or the FILE's name.")] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="At most; else 3, last-N 5, from nothing 4.")] = None,
    patience: Annotated[int, typer.Option(min=1, help="Epochs in which dev may fail to improve.")] = 1,
    batch: Annotated[int, typer.Option(min=1, help="Texts a step and process.")] = 32,
    accumulate: Annotated[int, typer.Option(min=1, help="Steps whose gradients are added up.")] = 1,
    learning_rate: Annotated[float | None, typer.Option(min=0, help="Else what suits the method.")] = None,
    longest: Annotated[int, typer.Option(min=3, help="Tokens of a text that are read.")] = 128,
    mlm_epochs: Annotated[
        int, typer.Option(min=0, help="Epochs of masked words of the training part first; they train all of the model.")
    ] = 0,
    precision: Annotated[Literal["fp32", "bf16", "fp16"] | None, typer.Option(help="Else the fastest here.")] = None,
    report_to: Annotated[
        str, typer.Option(help="tensorboard, wandb, mlflow, ... as Transformers has it; none.")
    ] = "tensorboard",
    work: Annotated[Path | None, typer.Option(help="Folder of checkpoints and logs; else in the cache.")] = None,
    seed: Annotated[int, typer.Option(help="Of the split, the new weights and the order.")] = 0,
) -> None:
    """Fine-tune a BERT to tell labels of texts, and say how well it does on texts that it never saw.

    Several sources are several tasks, each with a head of its own, on one encoder that all of them train. Texts are
    divided 80/10/10, each in one part only, whatever tasks it is in. After every epoch there is a line a task: losses,
    accuracy, precision, recall, F1; the best one by dev (the mean over tasks) is kept, and scored once on the test
    part, beside TF-IDF with logistic regression. Run again after it was killed, it goes on after the last whole epoch.

    With --out, the bundle has the encoder and the heads; where it serves, a head "sentiment" judges reviews that
    have no value. Needs the extra 'train', and 'demo' without --model. Texts are downloaded once.

    For example: [bold]penchant classify en --method lora --json figures.json --out build/sentiment[/]
    """
    try:
        from consumer.classifying import Wanted, run
        from model.training.adaptation import Method
        from model.training.finetune import Training
    except ModuleNotFoundError as error:
        raise Fatal(f"no module {error.name!r}: install the extra 'train' (PyTorch)") from None

    training = Training(
        Method.parse(method), epochs, batch, accumulate, learning_rate, patience, longest, precision, report_to, seed,
        mlm_epochs,
    )  # fmt: skip
    run(Wanted(sources, training, model, out, json, name, work))
