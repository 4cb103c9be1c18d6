"""Fit the quality score of a model on the robustness battery, and put it into the model's card.

    python -m tests.bench.calibrate_quality ROBUSTNESS.csv --block quality-block.json
    python -m tests.bench.calibrate_quality ROBUSTNESS.csv --add MODEL --out NEW_MODEL

The score is a logistic curve over the logits of the features that can only rise with each of them
(`cardiometa.segmentation.model.QualityCalibration`), fitted by quasi-binomial likelihood with a
small ridge. What is said of its accuracy is by cross-validation that leaves out whole patients,
every perturbation of theirs included: AUC for a mean Dice below 0.8 with an interval from
resampled patients, R², mean absolute error, calibration slope and intercept.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy import optimize, stats

from cardiometa.files import canonical_json, write_bytes, write_text
from cardiometa.flags import limit_of
from cardiometa.segmentation.model import (
    QUALITY_KIND,
    load_model,
    model_bytes,
    parse_quality,
    tensors_of,
)
from tests.bench.robustness import MUST_NOT_MATTER, PLAIN, read_rows

CLIP = 0.003
RIDGE = 0.02
BAD = 0.8
LEAST_WEIGHT = 0.01
BOOTSTRAP = 1000


def logit(share: np.ndarray) -> np.ndarray:
    """Log odds of shares clipped away from 0 and 1."""
    clipped = np.clip(share, CLIP, 1 - CLIP)
    return np.log(clipped / (1 - clipped))


def fit(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, float]:
    """Weights (none negative) and intercept for logits ``[n, k]`` and Dice ``[n]``."""
    centre = x.mean(axis=0)

    def loss(parameters: np.ndarray) -> tuple[float, np.ndarray]:
        eta = (x - centre) @ parameters[1:] + parameters[0]
        p = 1 / (1 + np.exp(-eta))
        value = np.mean(np.logaddexp(0, eta) - y * eta) + RIDGE / 2 * np.mean(parameters[1:] ** 2)
        slope = (x - centre).T @ (p - y) / len(y) + RIDGE * parameters[1:] / x.shape[1]
        return float(value), np.r_[np.mean(p - y), slope]

    start = np.r_[0.0, np.full(x.shape[1], 0.1)]
    bounds = [(None, None), *[(0, None)] * x.shape[1]]
    found = optimize.minimize(loss, start, jac=True, bounds=bounds, method="L-BFGS-B")
    weights = found.x[1:]
    return weights, float(found.x[0] - centre @ weights)


def predict(x: np.ndarray, weights: np.ndarray, intercept: float) -> np.ndarray:
    """Predicted Dice ``[n]``."""
    return 1 / (1 + np.exp(-(x @ weights + intercept)))


def auc(score: np.ndarray, bad: np.ndarray) -> float:
    """Probability that a bad scan scores below a good one (Mann-Whitney), ties half."""
    ranks = stats.rankdata(-score)
    n_bad, n_good = int(bad.sum()), int((~bad).sum())
    if not n_bad or not n_good:
        return float("nan")
    return float((ranks[bad].sum() - n_bad * (n_bad + 1) / 2) / (n_bad * n_good))


def left_out(x: np.ndarray, y: np.ndarray, patient: np.ndarray) -> np.ndarray:
    """Predictions for each patient by a fit without any row of that patient."""
    predicted = np.empty(len(y))
    for one in np.unique(patient):
        own = patient == one
        predicted[own] = predict(x[own], *fit(x[~own], y[~own]))
    return predicted


def auc_interval(score: np.ndarray, bad: np.ndarray, patient: np.ndarray) -> list[float]:
    """95 % percentile interval of the AUC over resampled patients."""
    rng = np.random.default_rng(1)
    names = np.unique(patient)
    rows = {name: np.flatnonzero(patient == name) for name in names}
    values = []
    for _ in range(BOOTSTRAP):
        index = np.concatenate([rows[name] for name in rng.choice(names, len(names))])
        values.append(auc(score[index], bad[index]))
    return [round(float(v), 4) for v in np.nanpercentile(values, (2.5, 97.5))]


def evidence(
    y: np.ndarray, predicted: np.ndarray, rows: Sequence[Mapping[str, str]]
) -> dict[str, Any]:
    """What the predictions of left-out patients are worth."""
    patient = np.array([row["heart"] for row in rows])
    plain = np.array([row["perturbation"] == PLAIN for row in rows])
    bad = y < BAD
    slope, intercept, *_ = stats.linregress(predicted, y)
    review, reject = limit_of("low-quality"), limit_of("very-low-quality")
    low, very_low = predicted < review, predicted < reject
    return {
        "how": "cross-validation leaving out whole patients",
        "auc_dice_below_0.8": round(auc(predicted, bad), 4),
        "auc_interval_95": auc_interval(predicted, bad, patient),
        "r2": round(1 - float(np.sum((y - predicted) ** 2) / np.sum((y - y.mean()) ** 2)), 4),
        "mean_absolute_error": round(float(np.mean(np.abs(y - predicted))), 4),
        "calibration_slope": round(float(slope), 3),
        "calibration_intercept": round(float(intercept), 3),
        "plain_mean_dice": round(float(y[plain].mean()), 4),
        "plain_mean_predicted": round(float(predicted[plain].mean()), 4),
        "plain_below_review": int((low & plain).sum()),
        "plain": int(plain.sum()),
        "review_limit": review,
        "review_sensitivity": round(float(low[bad].mean()), 4),
        "review_specificity": round(float((~low)[~bad].mean()), 4),
        "reject_limit": reject,
        "rejected": int(very_low.sum()),
        "rejected_highest_dice": round(float(y[very_low].max()), 4) if very_low.any() else None,
        "rejected_mean_dice": round(float(y[very_low].mean()), 4) if very_low.any() else None,
    }  # fmt: skip


def sentence(found: Mapping[str, Any], images: int, people: int) -> str:
    """What the card says of the score to people."""
    low, high = found["auc_interval_95"]
    return (
        "The column `quality` is the mean Dice (three structures, ED and ES) that the network's "
        "own doubt predicts: agreement of mirrored and shifted views, its probabilities, and how "
        f"plausible the labels are. Fitted on {images} images of {people} patients held out, as "
        "they are and made worse on purpose (noise, bias field, blur, ghosts, contrast, field of "
        "view, slices). Of patients left out of the fit it finds a mean Dice below 0.8 with an "
        f"AUC of {found['auc_dice_below_0.8']:.3f} (95 % interval {low:.3f} to {high:.3f}), R² "
        f"{found['r2']:.2f}, mean absolute error {found['mean_absolute_error']:.3f}. Below "
        f"{found['review_limit']:g} a scan goes to review (finds "
        f"{100 * found['review_sensitivity']:.0f} % of them, and "
        f"{100 - 100 * found['review_specificity']:.1f} % of the others), below "
        f"{found['reject_limit']:g} it is rejected. Patients of one hospital; labels that are "
        "wrong and sure of it (another structure, another plane) are not found by it."
    )


def block_of(rows: Sequence[Mapping[str, str]]) -> dict[str, Any]:
    """The card's ``quality`` block from the battery's rows of one model."""
    names = sorted(key.removeprefix("f_") for key in rows[0] if key.startswith("f_"))
    x = logit(np.array([[float(row[f"f_{name}"]) for name in names] for row in rows]))
    y = np.array([float(row["dice_mean"]) for row in rows])
    patient = np.array([row["heart"] for row in rows])
    predicted = left_out(x, y, patient)
    weights, intercept = fit(x, y)
    for name, column in zip(names, x.T, strict=True):
        print(f"  {name:<20} alone: AUC {auc(column, y < BAD):.3f}", file=sys.stderr)
    found = evidence(y, predicted, rows)
    block = {
        "kind": QUALITY_KIND,
        "predicts": "mean Dice of LV cavity, LV myocardium and RV cavity at ED and ES",
        "sentence": sentence(found, len(rows), len(np.unique(patient))),
        "weights": {n: float(w) for n, w in zip(names, weights, strict=True) if w >= LEAST_WEIGHT},
        "intercept": intercept,
        "clip": CLIP,
        "training": {
            "images": f"{len(rows)} images of {len(np.unique(patient))} held-out hearts, as they "
            "are and made worse by the robustness battery (tests/bench/robustness.py)",
            "model": rows[0]["model"],
            "dice_below_0.8": int((y < BAD).sum()),
            "fit": "quasi-binomial likelihood, weights of 0 or more, ridge "
            f"{RIDGE:g}; features as logits",
        },
        "evidence": found,
    }
    calibration = parse_quality(block)
    again = [calibration.predict({n: float(r[f"f_{n}"]) for n in names}) for r in rows]
    # Weights below 0.01 were left out; what is written must still be what was fitted.
    off = np.abs(np.array(again, dtype=float) - predict(x, weights, intercept)).max()
    if off > 0.02:
        raise SystemExit(f"the written calibration differs from the fit by {off:.3f}")
    return block


def add_block(source: Path, block: Mapping[str, Any], target: Path) -> None:
    """The model file with the block in its card; the weights and their digest stay."""
    model = load_model(source)
    document = {**model.card.document, "quality": dict(block)}
    data = model_bytes(tensors_of(model), document)
    write_bytes(target, data)
    if load_model(target).card.tensors_sha256 != model.card.tensors_sha256:
        raise SystemExit("the weights changed on the way")


def main(arguments: Sequence[str] | None = None) -> int:
    """Fit, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("table", type=Path)
    parser.add_argument("--block", type=Path, help="write the card's block as JSON")
    parser.add_argument("--add", type=Path, metavar="MODEL", help="a model file to add it to")
    parser.add_argument("--out", type=Path, help="the new model file")
    options = parser.parse_args(arguments)
    rows = read_rows(options.table)
    models = {row["model"] for row in rows}
    if options.add is not None:
        models = {load_model(options.add).card.tensors_sha256[:12]}
    if len(models) != 1 or not any(row["model"] in models for row in rows):
        parser.error(f"the table holds {sorted({r['model'] for r in rows})}, wanted {models}")
    # Turned and rescaled copies of a good image are the good image over again.
    kept = [r for r in rows if r["model"] in models and r["perturbation"] not in MUST_NOT_MATTER]
    block = block_of(kept)
    print(json.dumps(block, indent=1))
    if options.block is not None:
        write_text(options.block, canonical_json(block))
    if options.add is not None and options.out is not None:
        add_block(options.add, block, options.out)
    found = block["evidence"]["auc_dice_below_0.8"]
    print(f"AUC {found:.3f}, bar 0.90: {'met' if found >= 0.9 else 'NOT met'}")
    return int(found < 0.9)


if __name__ == "__main__":
    sys.exit(main())
