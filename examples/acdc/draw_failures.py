"""Draw where the model and the reader differ most: ``draw_failures.py ACDC OUT.svg FOLDER…``.

Each FOLDER contains ``segmented/`` and ``agreement/`` of patients held out. For each structure the
two hearts of lowest Dice, and in each its two slices with most voxels in only one mask: outlines
of the model (solid) and of the reader (dashed), without the images.
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import matplotlib as mpl
import nibabel as nib
import numpy as np

mpl.use("svg")
from matplotlib import pyplot as plt

TO_OURS = np.array([0, 3, 2, 1])
NAMES = {1: ("lv_cavity", "LV cavity"), 2: ("lv_myocardium", "myocardium"), 3: ("rv_cavity", "RV")}
COLOURS = {1: "#c8402e", 2: "#1f77a8", 3: "#b58900"}
HALF_MM = 65.0


def masks(acdc: Path, folder: Path, row: dict[str, str]) -> tuple[np.ndarray, np.ndarray, float]:
    """Model's and reader's labels ``[z, y, x]`` of one phase, and the pixel spacing in mm."""
    patient, phase = row["participant_id"], row["phase"]
    scan = folder / "segmented" / "scans" / row["trial"] / patient / row["visit"]
    image = nib.load(scan / "segmentation.nii.gz")
    ours = np.asarray(image.dataobj)[..., int(row["frame"])].transpose(2, 1, 0)
    truth = nib.load(acdc / patient / f"{patient}_{phase}_gt.nii.gz")
    reader = TO_OURS[np.asarray(truth.dataobj).astype(int)].transpose(2, 1, 0)
    return ours, reader, float(image.header.get_zooms()[0])


def draw(axis: plt.Axes, ours: np.ndarray, reader: np.ndarray, spacing: float) -> None:
    """Outlines of one slice, 130 mm wide, around the heart."""
    rows, columns = np.nonzero((ours > 0) | (reader > 0))
    y, x = (rows.mean(), columns.mean()) if len(rows) else (ours.shape[0] / 2, ours.shape[1] / 2)
    for labels, style in ((reader, "dashed"), (ours, "solid")):
        for label, colour in COLOURS.items():
            own = (labels == label) if label != 2 else np.isin(labels, (1, 2))
            if own.any():
                axis.contour(own, levels=[0.5], colors=[colour], linewidths=0.9, linestyles=style)
    half = HALF_MM / spacing
    axis.set(xlim=(x - half, x + half), ylim=(y + half, y - half), aspect="equal")
    axis.set(xticks=[], yticks=[])


def main(acdc: Path, target: Path, *folders: Path) -> None:
    """Two hearts per structure, two slices per heart."""
    rows, folder_of = [], {}
    for folder in folders:
        with (folder / "agreement" / "overlap.csv").open(newline="", encoding="utf-8") as stream:
            own = [row for row in csv.DictReader(stream) if row["dice"]]
        rows += own
        folder_of |= dict.fromkeys((row["participant_id"] for row in own), folder)
    mpl.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "cardiometa", "font.size": 7})
    figure, axes = plt.subplots(3, 4, figsize=(7.2, 5.9), layout="constrained")
    for line, (label, (name, short)) in zip(axes, NAMES.items(), strict=True):
        worst = sorted((r for r in rows if r["structure"] == name), key=lambda r: float(r["dice"]))
        for pair, row in zip((line[:2], line[2:]), worst[:2], strict=True):
            ours, reader, spacing = masks(acdc, folder_of[row["participant_id"]], row)
            apart = ((ours == label) != (reader == label)).sum(axis=(1, 2))
            for axis, z in zip(pair, sorted(np.argsort(apart)[-2:]), strict=True):
                draw(axis, ours[z], reader[z], spacing)
                dice = f"{row['phase']}, Dice {float(row['dice']):.2f}, slice {z}"
                axis.set_title(f"{short}, {row['participant_id']}\n{dice}", fontsize=7)
    figure.savefig(target, metadata={"Date": None, "Creator": None})


if __name__ == "__main__":
    if len(sys.argv) < 4:
        sys.exit(__doc__)
    main(*map(Path, sys.argv[1:]))
