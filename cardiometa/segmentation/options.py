"""The options of training a model: declared and grouped once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from ..options import Option, Options

_DATA, _CARD = "Training data", "Model card"


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainOptions(Options):
    """Labelled hearts and how to train on them; ``settings`` are those of `Recipe`.

    ``packed`` is a packed file made before (the folds of a cross-validation share one).
    """

    pairs: Annotated[
        Path,
        Option(
            help="Folder of PATIENT/PATIENT_{ED,ES}[_gt].nii.gz.", exists="any", metavar="FOLDER"
        ),
    ]
    folder: Annotated[Path, Option(help="The run: packed slices and checkpoint.", metavar="FOLDER")]
    out: Annotated[Path, Option(help="Model file to write.", metavar="FILE")]
    label_order: Annotated[
        Literal["acdc", "cardiometa"], Option(help="Labels; acdc has the RV first.", group=_DATA)
    ] = "acdc"
    slices: Annotated[
        Path | None,
        Option(
            help="Folder images/, labels/ of LV-only slices.",
            group=_DATA,
            exists="any",
            metavar="FOLDER",
        ),
    ] = None
    hold_out: Annotated[
        tuple[str, ...], Option(help="Patients of --slices never trained on.", group=_DATA)
    ] = ()
    exclude: Annotated[
        tuple[str, ...], Option(help="Patients of --slices with wrong labels.", group=_DATA)
    ] = ()
    phantoms: Annotated[int, Option(help="Synthetic hearts to add.", group=_DATA, minimum=0)] = 100
    packed: Annotated[
        Path | None,
        Option(
            help="Packed file of an earlier run to train on.",
            group=_DATA,
            exists="any",
            metavar="FILE",
        ),
    ] = None
    settings: Mapping[str, Any] | None = None
    model_id: Annotated[str, Option(help="Name of the model.", group=_CARD)] = "own-model"
    licence: Annotated[str, Option(help="Licence of the weights.", group=_CARD)] = (
        "the licence of the training data"
    )
    vendors: Annotated[
        tuple[str, ...], Option(help="Vendors whose RV labels were trained on.", group=_CARD)
    ] = ()
    start_from: Annotated[
        Path | None,
        Option(help="Checkpoint with the initial weights.", exists="any", metavar="FILE"),
    ] = None
    validate_every: int = 10
