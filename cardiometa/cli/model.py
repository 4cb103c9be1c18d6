"""``cardiometa model show|verify|train``: model files and their cards."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from ..files import read_json
from ..options import Output
from ..segmentation.options import TrainOptions
from .app import CONTEXT
from .command import Only, command
from .output import say, show_json, show_text

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    context_settings=CONTEXT,
    help="Model files: show the card, verify the file, train a model.",
    epilog="Example: cardiometa model show",
)
_Model = Annotated[
    Path | None,
    typer.Argument(help="Model file (default: the bundled model).", metavar="FILE"),
]
_Json = Annotated[Output, Only("json", "verbose")]


@app.command(epilog="Example: cardiometa model show")
@command
def show(file: _Model, output: _Json) -> None:
    """Print a model's card."""
    from ..segmentation.model import card_markdown, load_model

    model = load_model(file)
    if output.json:
        show_json({"sha256": model.sha256, "card": model.card.document})
    else:
        show_text(f"{card_markdown(model.card)}\nSHA-256 of the file: {model.sha256}\n")


@app.command(epilog="Example: cardiometa model verify own-model.safetensors")
@command
def verify(file: _Model) -> None:
    """Check that a model file is complete: card, weights, and that they fit the network."""
    from ..segmentation.model import load_model

    model = load_model(file)
    model.predictor(device="cpu", workers=1).close()
    say(f"{model.card.model_id}: card and weights agree, SHA-256 {model.sha256}")


@app.command(epilog="Example: cardiometa model train --pairs acdc --folder run --out own")
@command
def train(
    options: TrainOptions,
    recipe: Annotated[
        Path | None,
        typer.Option(help="JSON of settings that differ from the default recipe.", metavar="FILE"),
    ],
    fold: Annotated[
        int | None,
        typer.Option(help="Fold held out (by patient), instead of the recipe's.", metavar="N"),
    ],
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.", metavar="NAME")] = "auto",
    *,
    output: _Json,
) -> None:
    """Train a model by the recipe; rerun the same command to resume."""
    from ..segmentation.model import need_torch

    need_torch()
    from ..commands.train import train as run_training
    from ..segmentation.inference import choose_device

    settings = dict(read_json(recipe)) if recipe else {}
    if fold is not None:
        settings["folds"] = [fold]
    last = run_training(replace(options, settings=settings), choose_device(device))
    if output.json:
        show_json(last)
    else:
        say(f"model: {options.out}")
