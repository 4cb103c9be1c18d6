"""``cardiometa model show|verify|train``: model files and their cards."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .options import JsonOption, comma_list, guard
from .output import say, show_json, show_text

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Model files: show, verify, train.",
)

ModelArgument = Annotated[
    Path | None, typer.Argument(help="A model file; default the bundled one.", show_default=False)
]


@app.command()
def show(file: ModelArgument = None, *, json: JsonOption = False) -> None:
    """Print a model's card."""
    with guard():
        from ..segmentation.card import card_markdown
        from ..segmentation.model import load_model

        model = load_model(file)
        if json:
            show_json({"sha256": model.sha256, "card": model.card.document})
        else:
            show_text(f"{card_markdown(model.card)}\nSHA-256 of the file: {model.sha256}\n")


@app.command()
def verify(file: ModelArgument = None) -> None:
    """Check that a model file is whole: card, weights, and that they fit the network."""
    with guard():
        from ..segmentation.model import load_model

        model = load_model(file)
        model.predictor(device="cpu", workers=1).close()
        say(f"{model.card.model_id}: card and weights agree, SHA-256 {model.sha256}")


@app.command()
def train(
    pairs: Annotated[
        Path, typer.Option(help="Folder of PATIENT/PATIENT_{ED,ES}[_gt].nii.gz.", exists=True)
    ],
    folder: Annotated[Path, typer.Option(help="The run: packed slices and checkpoint.")],
    out: Annotated[Path, typer.Option(help="The model file to write.")],
    *,
    label_order: Annotated[str, typer.Option(help="acdc (RV first) or cardiometa.")] = "acdc",
    slices: Annotated[
        Path | None, typer.Option(help="Folder images/, labels/ of LV-only slices.", exists=True)
    ] = None,
    hold_out: Annotated[str, typer.Option(help="Patients of --slices never trained on.")] = "",
    exclude: Annotated[str, typer.Option(help="Patients of --slices with wrong labels.")] = "",
    phantoms: Annotated[int, typer.Option(help="Synthetic hearts to add.", min=0)] = 100,
    recipe: Annotated[
        Path | None, typer.Option(help="JSON of settings that differ from the default recipe.")
    ] = None,
    fold: Annotated[
        int | None, typer.Option(help="Fold held out (by patient), in place of the recipe's.")
    ] = None,
    packed: Annotated[
        Path | None, typer.Option(help="Packed file of an earlier run to train on.", exists=True)
    ] = None,
    start_from: Annotated[
        Path | None, typer.Option(help="Checkpoint whose weights to begin with.", exists=True)
    ] = None,
    model_id: Annotated[str, typer.Option(help="Name of the model.")] = "own-model",
    licence: Annotated[str, typer.Option(help="Terms of the weights.")] = (
        "the licence of the training data"
    ),
    vendors: Annotated[str, typer.Option(help="Vendors whose RV labels were trained on.")] = "",
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    json: JsonOption = False,
) -> None:
    """Train a model by the recipe; the same command again goes on where it was stopped."""
    with guard():
        from ..commands.train import TrainOptions
        from ..commands.train import train as run
        from ..files import read_json
        from ..segmentation.inference import choose_device
        from ..segmentation.packing import LABEL_ORDERS
        from .options import one_of

        one_of("--label-order", label_order, tuple(LABEL_ORDERS))
        settings = dict(read_json(recipe)) if recipe else {}
        if fold is not None:
            settings["fold"] = fold
        last = run(
            TrainOptions(
                folder=folder,
                out=out,
                pairs=pairs,
                label_order=label_order,
                slices=slices,
                hold_out=comma_list(hold_out),
                exclude=comma_list(exclude),
                phantoms=phantoms,
                packed=packed,
                settings=settings,
                model_id=model_id,
                licence=licence,
                vendors=comma_list(vendors),
                start_from=start_from,
            ),
            choose_device(device),
        )
        if json:
            show_json(last)
        else:
            say(f"model: {out}")
