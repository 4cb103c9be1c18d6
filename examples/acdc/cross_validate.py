"""Five folds by patient: train, segment the patients held out, evaluate. Resumable.

``python cross_validate.py ACDC_FOLDER WORK [--slices SUNNYBROOK_SLICES] [--folds 0,1,2,3,4]``

One packed file serves all folds. Two folds share a start, a network that saw no patient of either;
each goes on from there with the patients of the other. Each fold's network is then tested end to
end: ``cardiometa segment --model`` on its held-out patients, ``cardiometa evaluate --against
labels`` on the masks. Finished steps are kept, so the same command resumes; on two cores a fold
takes about 25 minutes.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from make_cohort import main as make_cohort

from cardiometa.commands.train import TrainOptions, pack, train
from cardiometa.segmentation.model import load_model, model_bytes, tensors_of
from cardiometa.segmentation.training import Trainer
from cardiometa.segmentation.training_data import Recipe, assign_folds, load, read_groups

RECIPES = Path(__file__).parent / "recipes"
# GE patients never trained on: the three complete cines (SCD0000101, -201, -301 are SC-HF-I-01,
# -02, -04) and five more. The labels of SC-N-06 lie outside the heart.
HELD_OUT = (
    "SC-HF-I-01",
    "SC-HF-I-02",
    "SC-HF-I-04",
    "SC-HF-NI-07",
    "SC-HF-NI-34",
    "SC-HYP-07",
    "SC-N-07",
    "SC-HYP-38",
)
EXCLUDED = ("SC-N-06",)
SHARE_A_START = ((0,), (1, 2), (3, 4))


def recipe(name: str) -> dict[str, object]:
    """The settings of one recipe file."""
    settings: dict[str, object] = json.loads((RECIPES / name).read_text())
    return settings


def start(packed: Path, folder: Path, folds: Sequence[int]) -> Path:
    """The checkpoint that these folds start from."""
    settings = Recipe.from_dict({**recipe("start.json"), "folds": folds})
    trainer = Trainer(load([packed]), settings, folder)
    trainer.resume()
    trainer.run()
    return folder / "checkpoint.pt"


def command(*words: str | Path) -> None:
    """Run ``cardiometa`` with these words; exit code 4 (some scans to look at) is no fault."""
    result = subprocess.run(  # noqa: S603 -- our own program, words from this file
        [sys.executable, "-m", "cardiometa", *map(str, words)], check=False
    ).returncode
    if result not in (0, 4):
        sys.exit(result)


def one_fold(number: int, acdc: Path, options: TrainOptions, folder: Path) -> None:
    """Train without the fold, then segment and evaluate its patients in ``folder``."""
    train(options)
    # Errors are scaled by the quality score, whose block is fitted once, for the bundled model.
    model, quality = load_model(options.out), load_model().card.document["quality"]
    options.out.write_bytes(
        model_bytes(tensors_of(model), {**model.card.document, "quality": quality})
    )
    folds = assign_folds(read_groups(acdc))
    make_cohort(acdc, folder / "cohort", {p for p, f in folds.items() if f == number})
    segmented = folder / "segmented"
    cohort = folder / "cohort" / "cohort.toml"
    command("segment", cohort, "--out", segmented, "--model", options.out)
    command(
        "evaluate",
        segmented,
        *("--against", "labels", "--labels", acdc, "--label-order", "acdc"),
        *("--out", folder / "agreement"),
    )


def main() -> None:
    """Pack, then fold by fold."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("acdc", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--slices", type=Path)
    parser.add_argument("--folds", default="0,1,2,3,4")
    parser.add_argument("--threads", type=int, default=0)
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    data = TrainOptions(
        folder=arguments.work,
        out=arguments.work / "unused",
        pairs=arguments.acdc,
        slices=arguments.slices,
        hold_out=HELD_OUT,
        exclude=EXCLUDED,
    )
    packed = pack(data)
    for number in map(int, arguments.folds.split(",")):
        folder = arguments.work / f"fold{number}"
        folds = next(folds for folds in SHARE_A_START if number in folds)
        name = "-".join(("start", *map(str, folds)))
        options = TrainOptions(
            folder=folder,
            out=folder / "model.safetensors",
            pairs=arguments.acdc,
            packed=packed,
            settings={**recipe("fold.json"), "folds": [number]},
            model_id=f"acdc-fold-{number}",
            vendors=("Siemens",),
            start_from=start(packed, arguments.work / name, folds),
        )
        one_fold(number, arguments.acdc, options, folder)


if __name__ == "__main__":
    main()
