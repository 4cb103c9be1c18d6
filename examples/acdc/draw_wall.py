"""Draw the wall by diagnosis from the readers' own labels: ``draw_wall.py ACDC OUT.svg``.

Mean and largest thickness at ED, thickening and circumferential strain of each heart of ACDC, by
group of ``reference_volumes.csv``: the bar is the group's mean, the dashed line the 15 mm above
which a wall counts as hypertrophic.
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import matplotlib as mpl
import nibabel as nib
import numpy as np

from cardiometa.imaging.read import ReadOptions, read_cine
from cardiometa.measurement.volumes import basal_end, structure_areas
from cardiometa.measurement.wall_thickness import measure_wall
from cardiometa.records import ScanSource

mpl.use("svg")
from matplotlib import pyplot as plt

TO_OURS = np.array([0, 3, 2, 1], dtype=np.uint8)
GROUPS = ("NOR", "HCM", "MINF", "DCM", "RV")
PANELS = ("mean thickness, mm", "largest thickness, mm", "thickening, %", "strain (GCS), %")


def measured(folder: Path) -> list[float]:
    """The values of `PANELS` of one heart."""
    paths = tuple(folder / f"{folder.name}_{phase}.nii.gz" for phase in ("ED", "ES"))
    cine = read_cine(ScanSource(kind="ed-es", paths=paths), ReadOptions())
    gold = (nib.load(path.with_name(path.name.replace(".nii", "_gt.nii"))) for path in paths)
    labels = np.stack([TO_OURS[np.asarray(g.dataobj).astype(int)].transpose(2, 1, 0) for g in gold])
    base = basal_end(structure_areas(labels, cine.spacing_mm, cine.slice_weights_mm), 0, 1)
    wall = base and measure_wall(labels, cine.spacing_mm, cine.affine, base)
    if not wall or wall.thickness_max_mm is None or wall.gcs_percent is None:
        return [np.nan] * len(PANELS)
    means = [float(np.nanmean(v)) for v in (wall.thickness_ed_mm, wall.thickening_percent)]
    return [means[0], wall.thickness_max_mm, means[1], wall.gcs_percent]


def main() -> None:
    """Measure, print the means, draw."""
    acdc, out = Path(sys.argv[1]), Path(sys.argv[2])
    with (acdc / "reference_volumes.csv").open(encoding="utf-8") as file:
        rows = [
            (row["group"], measured(acdc / row["participant_id"])) for row in csv.DictReader(file)
        ]
    plt.rcParams |= {"svg.fonttype": "none", "svg.hashsalt": "wall", "font.size": 9}
    figure, axes = plt.subplots(1, len(PANELS), figsize=(11, 2.8), layout="constrained")
    for i, (axis, name) in enumerate(zip(axes, PANELS, strict=True)):
        for x, group in enumerate(GROUPS):
            values = np.array([v[i] for g, v in rows if g == group])
            values = values[np.isfinite(values)]
            at = x + 0.3 * np.linspace(-1, 1, len(values))
            axis.plot(at, values, ".", color="#1f77a8", markersize=4)
            axis.plot([x - 0.35, x + 0.35], [values.mean()] * 2, color="#c8402e")
            high = f", {np.count_nonzero(values >= 15)} of 15 mm or more" if i == 1 else ""
            print(f"{name} {group}: {values.mean():.1f} ± {values.std(ddof=1):.1f}{high}")
        axis.set(title=name, xticks=range(len(GROUPS)), xticklabels=GROUPS)
        axis.spines[["top", "right"]].set_visible(False)
    axes[1].axhline(15, color="0.5", linestyle="--", linewidth=0.8)
    figure.savefig(out, metadata={"Date": None})


if __name__ == "__main__":
    main()
