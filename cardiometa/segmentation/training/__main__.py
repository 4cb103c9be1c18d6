"""``python -m cardiometa.segmentation.training PACK [PACK ...] --folder RUN``."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch

from .data import Recipe, load
from .fit import Trainer


def main() -> None:
    """Train, or continue training, and leave ``checkpoint.pt`` in the folder."""
    parser = argparse.ArgumentParser(prog="python -m cardiometa.segmentation.training")
    parser.add_argument("packs", nargs="+", type=Path, help="packed files of slices (.npz)")
    parser.add_argument("--folder", type=Path, required=True, help="folder of the checkpoint")
    parser.add_argument("--recipe", type=Path, help="JSON of the settings that differ")
    parser.add_argument("--start-from", type=Path, help="checkpoint whose averaged weights start")
    parser.add_argument("--fold", type=int, help="fold held out, in place of the recipe's")
    parser.add_argument("--validate-every", type=int, default=10, help="epochs between scores")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads; 0: all")
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    settings = json.loads(arguments.recipe.read_text()) if arguments.recipe else {}
    if arguments.fold is not None:
        settings["fold"] = arguments.fold
    trainer = Trainer(
        load(arguments.packs), Recipe.from_dict(settings), arguments.folder, arguments.device
    )
    if not trainer.resume() and arguments.start_from:
        state = torch.load(arguments.start_from, map_location="cpu", weights_only=True)
        trainer.start_from(state["average"])
    print(json.dumps(trainer.run(every=arguments.validate_every)))


if __name__ == "__main__":
    main()
