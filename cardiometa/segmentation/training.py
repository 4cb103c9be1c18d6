"""Losses, self-labelling and the training loop: seeded, resumable, averaged weights.

``python -m cardiometa.segmentation.training PACK [PACK ...] --folder RUN`` trains from packed files
on any machine with this package's folder, numpy, torch and safetensors.

Of the LV-only slices of other scanners myocardium and RV have no labels. Half-way through a run the
averaged network draws them, in several orientations; where the mean is sure the label is trained
on under full augmentation, elsewhere the pixel counts nowhere, and the reader's cavity is always
kept (self-training with a noisy student: Xie 2020, doi:10.1109/CVPR42600.2020.01070).
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from .augment import area_and_centre, augment
from .network import HeartUNet
from .training_data import FULL, LV_ONLY, PHANTOM, UNKNOWN, Pack, Recipe, load

# The orientations that are averaged: as it is, mirrored, turned by 90 and 270 degrees.
_VIEWS = ((0, False), (0, True), (1, False), (3, False))


def normalise(images: np.ndarray) -> np.ndarray:
    """Clip a volume to its 1st and 99th percentile and z-score it."""
    low, high = (float(value) for value in np.percentile(images, (1, 99)))
    clipped = np.clip(images.astype(np.float32), low, max(high, low + 1e-6))
    scaled: np.ndarray = (clipped - float(clipped.mean())) / max(float(clipped.std()), 1e-6)
    return scaled.astype(np.float32)


def with_context(images: np.ndarray, context_slices: int) -> np.ndarray:
    """``[z, y, x]`` normalised as one volume, each slice between its neighbours."""
    x = normalise(images)
    if context_slices == 1:
        return x[:, None]
    return np.stack([np.r_[x[:1], x[:-1]], x, np.r_[x[1:], x[-1:]]], axis=1)


@torch.inference_mode()
def mean_probability(network: nn.Module, stack: np.ndarray) -> np.ndarray:
    """Class probabilities ``[z, 4, y, x]`` of a stack with context, averaged over the views."""
    device = next(network.parameters()).device
    x = torch.from_numpy(np.ascontiguousarray(stack)).to(device)
    total = torch.zeros((len(x), 4, *x.shape[2:]), device=device)
    for turns, mirror in _VIEWS:
        view = torch.rot90(x, turns, (2, 3))
        view = view.flip(3) if mirror else view
        seen = network(view.contiguous(memory_format=torch.channels_last)).softmax(dim=1)
        seen = seen.flip(3) if mirror else seen
        total += torch.rot90(seen, -turns, (2, 3))
    result: np.ndarray = (total / len(_VIEWS)).cpu().numpy()
    return result


def completed(probability: np.ndarray, labels: np.ndarray, least: float) -> np.ndarray:
    """Labels of slices whose reader drew the cavity alone, ``[z, y, x]`` with `UNKNOWN`.

    Outside the reader's cavity the other three classes share what is left; the largest is taken
    where it has at least ``least`` of it.
    """
    others = probability[:, [0, 2, 3]]
    share = others / np.maximum(others.sum(axis=1, keepdims=True), 1e-6)
    names = np.array([0, 2, 3], dtype=np.uint8)[share.argmax(axis=1)]
    sure = share.max(axis=1) >= least
    return np.where(labels == 1, 1, np.where(sure, names, UNKNOWN)).astype(np.uint8)


def complete_rows(
    network: nn.Module, pack: Pack, rows: np.ndarray, context_slices: int, least: float
) -> np.ndarray:
    """Completed labels ``[len(rows), y, x]`` of full volumes, in the order of ``rows``."""
    network.eval()
    result = np.empty((len(rows), *pack.labels.shape[1:]), dtype=np.uint8)
    for volume in np.unique(pack.volume[rows]):
        mine = np.flatnonzero(pack.volume[rows] == volume)
        own = rows[mine]
        probability = mean_probability(network, with_context(pack.images[own], context_slices))
        result[mine] = completed(probability, pack.labels[own], least)
    return result


def _soft_dice(
    probability: torch.Tensor, truth: torch.Tensor, weight: torch.Tensor
) -> torch.Tensor:
    """1 - mean Dice over the classes, summed over the batch (stable where a slice has none).

    ``weight`` ``[n, 1, y, x]`` or ``[n, 1, 1, 1]``: which slices or pixels count.
    """
    overlap = (probability * truth * weight).sum(dim=(0, 2, 3))
    total = ((probability + truth) * weight).sum(dim=(0, 2, 3))
    return 1 - ((2 * overlap + 10) / (total + 10)).mean()


def segmentation_loss(
    logits: torch.Tensor, labels: torch.Tensor, lv_only: torch.Tensor
) -> torch.Tensor:
    """Loss of a batch; ``lv_only`` ``[n]`` marks slices of which only the cavity is labelled.

    Where only the cavity is known the other three classes are one: the probability of "not
    cavity" is their sum, so the network is free to place myocardium and RV (partial labels as in
    Shi 2021, doi:10.1016/j.media.2021.101979). Pixels labelled `UNKNOWN` count nowhere.
    """
    known = labels != UNKNOWN
    labels = torch.where(known, labels, 0)
    log_p = functional.log_softmax(logits, dim=1)
    probability = log_p.exp()
    full = 1 - lv_only
    per_pixel = functional.nll_loss(log_p, labels, reduction="none") * known
    picked = per_pixel.sum(dim=(1, 2)) / known.sum(dim=(1, 2)).clamp_min(1)
    cavity = (labels == 1).float()
    log_not = torch.log1p(-probability[:, 1].clamp(max=1 - 1e-5))
    binary = -(cavity * log_p[:, 1] + (1 - cavity) * log_not).mean(dim=(1, 2))
    cross_entropy = (full * picked + lv_only * binary).mean()
    truth = functional.one_hot(labels, logits.shape[1]).permute(0, 3, 1, 2).float()
    counted = full.view(-1, 1, 1, 1) * known[:, None]
    dice = _soft_dice(probability[:, 1:], truth[:, 1:], counted)
    if bool(lv_only.any()):
        share = lv_only.mean()
        dice = dice * (1 - share) + share * _soft_dice(
            probability[:, 1:2], cavity[:, None], lv_only.view(-1, 1, 1, 1)
        )
    return cross_entropy + dice


def heart_centres(labels: np.ndarray) -> np.ndarray:
    """Centre ``[n, 2]`` (y, x) of each slice's labels; the image's own where it has none."""
    _, height, width = labels.shape
    area, centre = area_and_centre(torch.from_numpy(labels > 0))
    middle = torch.tensor([(height - 1) / 2, (width - 1) / 2])
    result: np.ndarray = torch.where((area > 0)[:, None], centre.flip(1), middle).numpy()
    return result


def volume_centres(pack: Pack) -> np.ndarray:
    """Centre of each slice's volume, so that empty end slices are cropped like the rest."""
    per_slice = heart_centres(pack.labels)
    has_heart: np.ndarray = np.asarray(pack.labels.any(axis=(1, 2)))
    centres = per_slice.copy()
    for volume in np.unique(pack.volume):
        rows = np.flatnonzero(pack.volume == volume)
        known = rows[has_heart[rows]]
        if len(known):
            centres[rows] = per_slice[known].mean(axis=0)
    return centres


class Batches:
    """Draws batches of fixed shares of each kind of label."""

    def __init__(self, pack: Pack, recipe: Recipe) -> None:
        self.pack = pack
        self.recipe = recipe
        self.centres = volume_centres(pack)
        self.labels, self.lv_only = pack.labels, pack.kind == LV_ONLY
        self.rows = {k: pack.training_rows(recipe.folds, k) for k in (FULL, LV_ONLY, PHANTOM)}
        if not len(self.rows[FULL]):
            raise ValueError("the packed file contains no fully labelled slice to train on")
        wanted = {LV_ONLY: recipe.share_partial, PHANTOM: recipe.share_phantom}
        self.counts = {
            k: round(recipe.batch * share) if len(self.rows[k]) else 0
            for k, share in wanted.items()
        }
        self.counts[FULL] = recipe.batch - sum(self.counts.values())
        self.per_epoch = math.ceil(len(self.rows[FULL]) / self.counts[FULL])

    def complete(self, labels: np.ndarray) -> None:
        """Train on these labels of the LV-only rows as on those of all structures."""
        rows = self.rows[LV_ONLY]
        self.labels, self.lv_only = self.labels.copy(), self.lv_only.copy()
        self.labels[rows], self.lv_only[rows] = labels, False

    def epoch(self, seed: int) -> list[np.ndarray]:
        """Row numbers of each batch of one epoch; a function of the seed alone."""
        rng = np.random.default_rng(seed)
        parts = []
        for kind, count in self.counts.items():
            if count:
                need = count * self.per_epoch
                rows = self.rows[kind]
                turns = [rng.permutation(rows) for _ in range(-(-need // len(rows)))]
                parts.append(np.concatenate(turns)[:need].reshape(self.per_epoch, count))
        return list(np.concatenate(parts, axis=1))

    def tensors(self, rows: np.ndarray, rng: torch.Generator) -> tuple[torch.Tensor, ...]:
        """Augmented images, labels and the LV-only mark of the given rows."""
        pack, recipe = self.pack, self.recipe
        context = np.stack([pack.below[rows], rows, pack.above[rows]], axis=1)
        if recipe.context_slices == 1:
            context = rows[:, None]
        images = torch.from_numpy(pack.images[context]).float() / 255
        labels = torch.from_numpy(self.labels[rows]).float()
        n, size = len(rows), images.shape[-1]
        shift = (torch.rand(n, 2, generator=rng) * 2 - 1) * recipe.shift_px
        centres = torch.from_numpy(self.centres[rows]) + shift
        # Some crops anywhere in the chest: the network meets liver, spine and lung too.
        anywhere = torch.rand(n, 2, generator=rng) * size
        away = torch.rand(n, 1, generator=rng) < recipe.away_from_heart
        centres = torch.where(away, anywhere, centres)
        x, y = augment(images, labels, centres, recipe, rng)
        return x, y, torch.from_numpy(self.lv_only[rows].astype(np.float32))


@torch.inference_mode()
def predict_volume(network: nn.Module, images: np.ndarray, context_slices: int) -> np.ndarray:
    """Labels ``[z, y, x]`` of one normalised volume ``[z, y, x]``."""
    stack = with_context(images, context_slices)
    x = torch.from_numpy(stack).to(next(network.parameters()).device)
    logits = network(x.contiguous(memory_format=torch.channels_last))
    labels: np.ndarray = logits.argmax(dim=1).cpu().numpy().astype(np.uint8)
    return labels


def dice(predicted: np.ndarray, truth: np.ndarray, label: int) -> float:
    """Dice of one label over a volume; NaN where neither has it."""
    a, b = predicted == label, truth == label
    total = int(a.sum()) + int(b.sum())
    return float("nan") if total == 0 else 2 * float((a & b).sum()) / total


def validate(network: nn.Module, pack: Pack, recipe: Recipe) -> dict[str, float]:
    """Mean Dice by structure and phase on held-out patients, before any cleaning."""
    network.eval()
    scores: dict[str, list[float]] = {}
    names = {1: "lv", 2: "myo", 3: "rv"}
    for kind, prefix in ((FULL, ""), (LV_ONLY, "partial_"), (PHANTOM, "phantom_")):
        rows = pack.held_out_rows(recipe.folds, kind)
        groups = pack.volume[rows]
        for group in np.unique(groups):
            own = rows[groups == group]
            truth = pack.labels[own]
            predicted = predict_volume(network, pack.images[own], recipe.context_slices)
            for label, name in names.items():
                if kind == LV_ONLY and label != 1:
                    continue
                key = f"{prefix}{name}_{pack.phase[own[0]]}"
                scores.setdefault(key, []).append(dice(predicted, truth, label))
    result = {key: float(np.nanmean(values)) for key, values in sorted(scores.items())}
    for name in names.values():
        pair = [result[k] for k in (f"{name}_ED", f"{name}_ES") if k in result]
        if pair:
            result[f"{name}_mean"] = sum(pair) / len(pair)
    return result


def _learning_rate(recipe: Recipe, progress: float) -> float:
    warm = recipe.warmup_fraction
    if progress < warm:
        return recipe.learning_rate * (0.04 + 0.96 * progress / warm)
    tail = (progress - warm) / (1 - warm)
    return recipe.learning_rate * (0.002 + 0.998 * 0.5 * (1 + math.cos(math.pi * tail)))


class Trainer:
    """One run: network, averaged weights, optimiser, and the checkpoint they live in."""

    def __init__(self, pack: Pack, recipe: Recipe, folder: Path, device: str = "cpu") -> None:
        torch.manual_seed(recipe.seed)
        self.pack, self.recipe, self.folder, self.device = pack, recipe, folder, device
        self.batches = Batches(pack, recipe)
        self.network = self._new_network()
        self.average = self._new_network()
        self.average.load_state_dict(self.network.state_dict())
        self.forward: Callable[[torch.Tensor], torch.Tensor] = self.network
        self.optimiser = torch.optim.AdamW(
            self.network.parameters(),
            lr=recipe.learning_rate,
            weight_decay=recipe.weight_decay,
            fused=True,
        )
        self.epoch = 0
        self.history: list[dict[str, Any]] = []
        self.own_labels: np.ndarray | None = None

    def _new_network(self) -> HeartUNet:
        recipe = self.recipe
        network = HeartUNet(recipe.widths, recipe.context_slices, unshuffle=recipe.unshuffle)
        return network.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]

    def start_from(self, weights: dict[str, torch.Tensor]) -> None:
        """Begin at the weights of an earlier run (fine-tuning)."""
        self.network.load_state_dict(weights)
        self.average.load_state_dict(weights)

    def save(self) -> None:
        """Write the checkpoint completely or not at all."""
        state = {
            "recipe": self.recipe.to_dict(),
            "epoch": self.epoch,
            "history": self.history,
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimiser": self.optimiser.state_dict(),
        }
        if self.own_labels is not None:
            state["own_labels"] = torch.from_numpy(self.own_labels)
        temporary = self.folder / "checkpoint.tmp"
        torch.save(state, temporary)
        os.replace(temporary, self.folder / "checkpoint.pt")

    def resume(self) -> bool:
        """Continue from the folder's checkpoint; False where there is none."""
        path = self.folder / "checkpoint.pt"
        if not path.exists():
            return False
        state = torch.load(path, map_location=self.device, weights_only=True)
        if Recipe.from_dict(state["recipe"]) != self.recipe:
            raise ValueError(f"{path.name} was made with another recipe; choose another folder")
        self.network.load_state_dict(state["network"])
        self.average.load_state_dict(state["average"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.epoch, self.history = int(state["epoch"]), list(state["history"])
        if "own_labels" in state:
            self.own_labels = state["own_labels"].cpu().numpy()
            self.batches.complete(self.own_labels)
        return True

    def label_the_rest(self) -> None:
        """Complete the LV-only slices by what the averaged network sees in them."""
        rows = self.batches.rows[LV_ONLY]
        if not len(rows):
            return
        recipe = self.recipe
        self.own_labels = complete_rows(
            self.average, self.pack, rows, recipe.context_slices, recipe.self_label_least
        )
        self.batches.complete(self.own_labels)

    def _update_average(self, step: int) -> None:
        decay = min(self.recipe.ema_decay, (1 + step) / (10 + step))
        mine, theirs = self.average.state_dict(), self.network.state_dict()
        for key, value in theirs.items():
            if value.dtype.is_floating_point:
                mine[key].lerp_(value, 1 - decay)
            else:
                mine[key].copy_(value)

    def train_epoch(self) -> dict[str, Any]:
        """One pass over the fully labelled slices; returns its record."""
        recipe, begun = self.recipe, time.monotonic()
        rng = torch.Generator().manual_seed(recipe.seed * 100_003 + self.epoch)
        plan = self.batches.epoch(recipe.seed * 1_000_003 + self.epoch)
        self.network.train()
        total = 0.0
        low_precision = self.device == "cuda" or (
            # Where a CPU does not multiply bf16 itself it is 12 times slower than float32.
            torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()  # noqa: SLF001
        )
        for number, rows in enumerate(plan):
            step = self.epoch * len(plan) + number
            rate = _learning_rate(recipe, step / (recipe.epochs * len(plan)))
            for group in self.optimiser.param_groups:
                group["lr"] = rate
            x, y, lv_only = (t.to(self.device) for t in self.batches.tensors(rows, rng))
            x = x.contiguous(memory_format=torch.channels_last)
            with torch.autocast(self.device, dtype=torch.bfloat16, enabled=low_precision):
                logits = self.forward(x)
            loss = segmentation_loss(logits.float(), y, lv_only)
            self.optimiser.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(self.network.parameters(), 5.0)
            self.optimiser.step()
            self._update_average(step)
            total += float(loss.detach())
        self.epoch += 1
        return {
            "epoch": self.epoch,
            "loss": total / len(plan),
            "seconds": time.monotonic() - begun,
        }

    def run(self, *, every: int = 5) -> dict[str, Any]:
        """Train to the recipe's last epoch, validating now and then; returns the last record."""
        self.folder.mkdir(parents=True, exist_ok=True)
        while self.epoch < self.recipe.epochs:
            due = 0 < self.recipe.self_label_epoch <= self.epoch
            if due and self.own_labels is None:
                self.label_the_rest()
            record = self.train_epoch()
            if self.epoch % every == 0 or self.epoch == self.recipe.epochs:
                record |= validate(self.average, self.pack, self.recipe)
            self.history.append(record)
            self.save()
            short = {k: round(v, 4) if isinstance(v, float) else v for k, v in record.items()}
            print(json.dumps(short), file=sys.stderr, flush=True)
        return self.history[-1] if self.history else {}


def main() -> None:
    """Train, or continue training, and leave ``checkpoint.pt`` in the folder."""
    parser = argparse.ArgumentParser(prog="python -m cardiometa.segmentation.training")
    parser.add_argument("packs", nargs="+", type=Path, help="packed files of slices (.npz)")
    parser.add_argument("--folder", type=Path, required=True, help="folder of the checkpoint")
    parser.add_argument("--recipe", type=Path, help="JSON of the settings that differ")
    parser.add_argument("--start-from", type=Path, help="checkpoint whose averaged weights start")
    parser.add_argument("--fold", type=int, help="fold held out, in place of the recipe's")
    parser.add_argument(
        "--compile", action="store_true", help="two thirds of the time; needs a C++ compiler"
    )
    parser.add_argument("--validate-every", type=int, default=10, help="epochs between scores")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads; 0: all")
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    settings = json.loads(arguments.recipe.read_text()) if arguments.recipe else {}
    if arguments.fold is not None:
        settings["folds"] = [arguments.fold]
    trainer = Trainer(
        load(arguments.packs), Recipe.from_dict(settings), arguments.folder, arguments.device
    )
    if arguments.compile:
        trainer.forward = torch.compile(trainer.network)
    if not trainer.resume() and arguments.start_from:
        state = torch.load(arguments.start_from, map_location="cpu", weights_only=True)
        trainer.start_from(state["average"])
    print(json.dumps(trainer.run(every=arguments.validate_every)))


if __name__ == "__main__":
    main()
