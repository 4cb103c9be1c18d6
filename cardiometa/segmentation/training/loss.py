"""Losses: cross-entropy with soft Dice, and their form where only the LV cavity is labelled."""

from __future__ import annotations

import torch
from torch.nn import functional

from .data import UNKNOWN


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
