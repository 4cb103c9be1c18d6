"""How Dice and EF hold out as images get worse: a table, a figure, and what must not matter.

    python -m tests.bench.robustness --out DIR [--model FILE] [--patients N] [--only noise,gamma]
        [--deal] [--figure-only]

Each held-out heart (ACDC patients of the model's card; phantoms where those data are absent) goes
through the program's own path, `segment_cine` then `measure_scan`, as it is and under each
perturbation and severity. ``DIR/robustness.csv`` has one row a heart, perturbation and severity
with all features of the quality score; rows that are there already are not done again, so a
stopped run goes on. ``--deal`` gives each heart one severity of each perturbation, dealt in turn:
a run that a calibration can be made from in a third of the time. One thread.
"""

from __future__ import annotations

import argparse
import csv
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np

from cardiometa.flags import status_of
from cardiometa.measurement.checks import predicted_dice_flags
from cardiometa.measurement.measure import measure_scan
from cardiometa.records import BodySize, LabelStack
from cardiometa.segmentation.model import Model, load_model
from cardiometa.segmentation.segment import segment_cine
from tests.bench.perturbations import PERTURBATIONS, Heart, perturbed, turned_back

STRUCTURES = ("lv", "myo", "rv")
PLAIN = "none"
# What changes nothing about the heart must not change its labels.
MUST_NOT_MATTER = ("orientation", "scale", "offset")
MOST_LOSS = 0.01

Row = dict[str, Any]


# ------------------------------------------------------------------ hearts


def data_folder() -> Path | None:
    """The ACDC hearts of $CARDIOMETA_DATA, else ``../shared/data``; None where absent."""
    default = Path(__file__).resolve().parents[3] / "shared" / "data"
    folder = Path(os.environ.get("CARDIOMETA_DATA", default)) / "acdc"
    return folder if folder.is_dir() else None


def acdc_heart(folder: Path, patient: str, row: Mapping[str, str]) -> Heart:
    """One ACDC patient; their labels (1 RV, 2 myocardium, 3 LV) become ours."""
    import nibabel

    from cardiometa.imaging.read import ReadOptions, read_cine
    from cardiometa.records import ScanSource

    stems = [folder / patient / f"{patient}_{phase}" for phase in ("ED", "ES")]
    paths = tuple(Path(f"{stem}.nii.gz") for stem in stems)
    truth = [np.asarray(nibabel.load(f"{stem}_gt.nii.gz").dataobj).astype(int) for stem in stems]
    return Heart(
        name=patient,
        group=row["group"],
        cine=read_cine(ScanSource(kind="ed-es", paths=paths), ReadOptions()),
        truth=np.array([0, 3, 2, 1], dtype=np.uint8)[np.stack([t.T for t in truth])],
        ef_percent=float(row["lv_ef_percent"]),
        edv_ml=float(row["lv_edv_ml"]),
    )


def phantom_heart(seed: int) -> Heart:
    """A phantom at ED and ES."""
    from cardiometa.phantom.image import CineGrid, HeartPhantom, render
    from tests.kit.labelled import cine_of

    phantom = HeartPhantom(lv_edv_ml=110 + 20 * seed, lv_ef_percent=65 - 5 * seed, seed=seed)
    grid = CineGrid(frames=12, in_plane_deg=37.0 * seed)
    image = render(phantom, grid)
    frames = [image.truth.ed_frame, image.truth.es_frame]
    labels = image.labels[frames]
    cine = cine_of(labels, spacing_mm=(2.0, 2.0), slice_mm=grid.slice_distance_mm, pair=True)
    import dataclasses

    return Heart(
        name=f"phantom{seed}",
        group="phantom",
        cine=dataclasses.replace(cine, pixels=image.pixels[frames].astype(np.float32)),
        truth=labels,
        ef_percent=image.truth.lv_ef_percent,
        edv_ml=image.truth.lv_edv_ml,
    )


def hearts(model: Model, count: int) -> Iterator[Heart]:
    """Up to ``count`` hearts that the model was not trained on."""
    folder = data_folder()
    if folder is None:
        yield from (phantom_heart(seed) for seed in range(1, min(count, 8) + 1))
        return
    with (folder / "reference_volumes.csv").open(newline="", encoding="utf-8") as stream:
        rows = {row["participant_id"]: row for row in csv.DictReader(stream)}
    held_out = [p for p in model.card.document["training"]["held_out"] if p in rows]
    if not held_out:
        sys.exit("the model's card names no ACDC patient held out: give the --model of a fold")
    # In turn by group, so that the first few already hold every disease.
    by_group: dict[str, list[str]] = {}
    for patient in held_out:
        by_group.setdefault(rows[patient]["group"], []).append(patient)
    rank = {p: (place, g) for g, group in by_group.items() for place, p in enumerate(group)}
    for patient in sorted(held_out, key=lambda p: rank[p])[:count]:
        yield acdc_heart(folder, patient, rows[patient])


# ------------------------------------------------------------------ one run


def dice(a: np.ndarray, b: np.ndarray) -> float:
    """Dice of two masks, 1 where both are empty."""
    total = int(a.sum()) + int(b.sum())
    return 2 * int((a & b).sum()) / total if total else 1.0


def row_of(heart: Heart, labels: LabelStack) -> Row:
    """Accuracy, numbers, flags and features of one segmented heart."""
    row: Row = {}
    scores = {}
    for label, name in enumerate(STRUCTURES, start=1):
        for frame, phase in enumerate(("ed", "es")):
            scores[name, phase] = dice(labels.labels[frame] == label, heart.truth[frame] == label)
            row[f"dice_{name}_{phase}"] = scores[name, phase]
        row[f"dice_{name}"] = (scores[name, "ed"] + scores[name, "es"]) / 2
    row["dice_mean"] = float(np.mean(list(scores.values())))
    measured = measure_scan(heart.cine, labels, BodySize(), "mosteller")
    values = {m.name: m.value for m in measured.measures}
    ef, edv = values.get("lv_ef_percent"), values.get("lv_edv_ml")
    row["ef_error"] = "" if ef is None else ef - heart.ef_percent
    row["edv_error_ml"] = "" if edv is None else edv - heart.edv_ml
    row["status"] = status_of(measured.flags)
    row["flags"] = ";".join(flag.code for flag in measured.flags if flag.level != "info")
    quality = labels.quality
    if quality is not None:
        predicted = quality.predicted_dice
        row["quality"] = "" if predicted is None else predicted
        row |= {f"f_{name}": value for name, value in quality.features.items()}
    return row


def tasks(number: int, only: Sequence[str], *, deal: bool) -> list[tuple[str, float]]:
    """(perturbation, severity) of heart ``number``; with ``deal`` one severity of each."""
    chosen: list[tuple[str, float]] = [(PLAIN, 0.0)]
    for place, (name, perturbation) in enumerate(PERTURBATIONS.items()):
        if only and name not in only:
            continue
        severities = perturbation.severities
        if deal:
            severities = (severities[(number + place) % len(severities)],)
        chosen += [(name, severity) for severity in severities]
    return chosen


def agreement(plain: np.ndarray, labels: np.ndarray, name: str, severity: float) -> float:
    """Mean Dice of the labels and those of the plain heart, for changes that must not matter."""
    if name == "orientation":
        labels = turned_back(labels, severity)
    return float(np.mean([dice(plain == label, labels == label) for label in (1, 2, 3)]))


def run(model: Model, options: argparse.Namespace) -> Path:
    """Do what is not yet in the table; returns the table's path."""
    path = options.out / "robustness.csv"
    done = {key_of(row) for row in read_rows(path)} if path.exists() else set()
    predictor = model.predictor(device="cpu", workers=1)
    for number, heart in enumerate(hearts(model, options.patients)):
        wanted = [
            task
            for task in tasks(number, options.only, deal=options.deal)
            if (model.card.tensors_sha256[:12], heart.name, task[0], f"{task[1]:g}") not in done
        ]
        plain: np.ndarray | None = None
        for name, severity in wanted:
            begun = time.monotonic()
            image = heart if name == PLAIN else perturbed(heart, name, severity)
            labels = segment_cine(image.cine, predictor, model.card, model.sha256)
            row: Row = {
                "model": model.card.tensors_sha256[:12],
                "heart": heart.name,
                "group": heart.group,
                "perturbation": name,
                "severity": f"{severity:g}",
                **row_of(image, labels),
            }
            if name in MUST_NOT_MATTER and plain is None:
                whole = segment_cine(heart.cine, predictor, model.card, model.sha256)
                plain = whole.labels
            if name == PLAIN:
                plain = labels.labels
            same = name in MUST_NOT_MATTER and plain is not None
            row["same_labels"] = agreement(plain, labels.labels, name, severity) if same else ""
            row["seconds"] = round(time.monotonic() - begun, 2)
            append(path, row)
        print(f"{heart.name}: {len(wanted)} done", file=sys.stderr, flush=True)
    predictor.close()
    return path


def key_of(row: Mapping[str, str]) -> tuple[str, str, str, str]:
    """What makes a row this row."""
    return row["model"], row["heart"], row["perturbation"], row["severity"]


def append(path: Path, row: Row) -> None:
    """Add a row; the first one writes the head."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = not path.exists()
    with path.open("a", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, fieldnames=list(row), lineterminator="\n")
        if new:
            writer.writeheader()
        writer.writerow(row)


def read_rows(path: Path) -> list[dict[str, str]]:
    """The rows of the table."""
    with path.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


# ------------------------------------------------------------------ what came out


def judged(rows: Sequence[Mapping[str, str]], model: Model) -> list[dict[str, str]]:
    """The rows with the quality that the model's card predicts now, and the status it makes.

    So a table that was made before the calibration shows what the calibrated model does.
    """
    calibration = model.card.quality
    result = []
    for row in rows:
        new = dict(row)
        if calibration is not None:
            features = {name[2:]: float(row[name]) for name in row if name.startswith("f_")}
            predicted = calibration.predict(features)
            new["quality"] = "" if predicted is None else str(predicted)
            levels = {flag.level for flag in predicted_dice_flags(predicted)}
            if "reject" in levels:
                new["status"] = "failed"
            elif "review" in levels and row["status"] == "ok":
                new["status"] = "review"
        result.append(new)
    return result


def summary(rows: Sequence[Mapping[str, str]]) -> list[dict[str, Any]]:
    """Means over hearts by perturbation and severity.

    Where only some hearts have a severity (``--deal``), what it costs them against themselves as
    they are is taken from the mean of all plain hearts, so that no severity has easier hearts.
    """
    plain = {row["heart"]: row for row in rows if row["perturbation"] == PLAIN}
    if not plain:
        raise SystemExit("the table has no heart as it is (perturbation none)")
    found = []
    for name, severity in dict.fromkeys((row["perturbation"], row["severity"]) for row in rows):
        pairs = [
            (row, plain[row["heart"]])
            for row in rows
            if (row["perturbation"], row["severity"]) == (name, severity) and row["heart"] in plain
        ]
        losses = [float(p["dice_mean"]) - float(r["dice_mean"]) for r, p in pairs]
        same = [float(r["same_labels"]) for r, _ in pairs if r["same_labels"]]
        found.append(
            {
                "perturbation": name,
                "severity": severity,
                "hearts": len(pairs),
                **{s: _adjusted(pairs, plain, f"dice_{s}") for s in STRUCTURES},
                "ef": _adjusted(pairs, plain, "ef_error"),
                "ef_missing": sum(not _given(r, "ef_error") for r, _ in pairs),
                "loss": float(np.mean(losses)),
                "most_loss": float(np.max(losses)),
                "least_same": min(same) if same else float("nan"),
                "not_ok": float(np.mean([r["status"] != "ok" for r, _ in pairs])),
            }
        )
    return found


def _adjusted(
    pairs: Sequence[tuple[Mapping[str, str], Mapping[str, str]]],
    plain: Mapping[str, Mapping[str, str]],
    column: str,
) -> float:
    """Mean size of the column over plain hearts, plus the mean change of the pairs from theirs."""
    known = [(r[column], p[column]) for r, p in pairs if _given(r, column) and p[column]]
    if not known:
        return float("nan")
    change = [abs(float(mine)) - abs(float(before)) for mine, before in known]
    mean = np.mean([abs(float(row[column])) for row in plain.values() if row[column]])
    return max(0.0, float(mean + np.mean(change)))


def _given(row: Mapping[str, str], column: str) -> bool:
    """Whether a user would have the number: a rejected scan has no EF."""
    return bool(row[column]) and not (column == "ef_error" and row["status"] == "failed")


def show(found: Sequence[Mapping[str, Any]]) -> int:
    """Print the means; 1 where a change that must not matter costs more than 0.01 of Dice."""
    head = "n     LV    myo     RV   |EF| none   loss  worst   same not-ok"
    print(f"{'perturbation':<18}{'severity':>9} {head}")
    bad = 0
    for one in found:
        shown = " ".join(f"{one[s]:6.3f}" for s in STRUCTURES)
        print(
            f"{one['perturbation']:<18}{one['severity']:>9} {one['hearts']:>2} {shown} "
            f"{one['ef']:6.1f} {one['ef_missing']:>4} {one['loss']:6.3f} {one['most_loss']:6.3f} "
            f"{one['least_same']:6.4f} {one['not_ok']:6.2f}"
        )
        if one["perturbation"] in MUST_NOT_MATTER and one["loss"] > MOST_LOSS:
            bad = 1
    print("must not matter:", "LOSS ABOVE 0.01" if bad else "loss below 0.01")
    return bad


def draw(found: Sequence[Mapping[str, Any]], out: Path) -> None:
    """``robustness.svg`` and ``.png``: Dice by structure and EF error against each severity."""
    from cardiometa.files import write_all
    from cardiometa.reports.style import drawing

    plain = next(one for one in found if one["perturbation"] == PLAIN)
    names = [n for n in PERTURBATIONS if any(o["perturbation"] == n for o in found)]
    columns = min(7, len(names))
    blocks = -(-len(names) // columns)
    top = min(30.0, max(12.0, *(o["ef"] for o in found if np.isfinite(o["ef"]))))

    def on_figure(figure: Any) -> None:
        ratios = [r for _ in range(blocks) for r in (3, 1.6, 1.5)][:-1]
        grid = figure.add_gridspec(
            len(ratios), columns, height_ratios=ratios, left=0.085, right=0.985, bottom=0.06,
            top=0.93, hspace=0.2, wspace=0.24,
        )  # fmt: skip
        for place, name in enumerate(names):
            block, column = divmod(place, columns)
            upper = figure.add_subplot(grid[3 * block, column])
            lower = figure.add_subplot(grid[3 * block + 1, column])
            own = sorted(
                (o for o in found if o["perturbation"] == name),
                key=lambda o: PERTURBATIONS[name].severities.index(float(o["severity"])),
            )
            _panel(upper, lower, [plain, *own], name)
            lower.set_ylim(0, 1.05 * top)
            if column:
                upper.tick_params(labelleft=False)
                lower.tick_params(labelleft=False)
            else:
                upper.set_ylabel("Dice")
                lower.set_ylabel("EF error\n(points)")
        handles, texts = figure.axes[0].get_legend_handles_labels()
        figure.legend(handles, texts, loc="upper center", ncols=3, bbox_to_anchor=(0.53, 1.0))

    description = "; ".join(
        f"{o['perturbation']} {o['severity']}: {o['lv']:.2f}, {o['myo']:.2f}, {o['rv']:.2f}"
        for o in found
    )
    title = "Dice of LV cavity, myocardium and RV cavity, and EF error, as images get worse"
    made = drawing((190, 12 + 58 * blocks), on_figure, title, description)
    contents: dict[str, bytes | str] = {"robustness.svg": made.svg, "robustness.png": made.png}
    write_all(out, contents)


def _panel(upper: Any, lower: Any, own: Sequence[Mapping[str, Any]], name: str) -> None:
    """One perturbation: Dice above, EF error below; "0" is the heart as it is."""
    from cardiometa.reports.style import PALETTE

    x = np.arange(len(own))
    joined = "" if name == "orientation" else "-"
    for colour, marker, structure, label in zip(
        PALETTE, "os^", STRUCTURES, ("LV cavity", "LV myocardium", "RV cavity"), strict=False
    ):
        y = [o[structure] for o in own]
        upper.plot(x, y, marker + joined, color=colour, ms=3, lw=1, label=label, clip_on=False)
    upper.set_ylim(0, 1)
    upper.set_title(PERTURBATIONS[name].title, fontsize=7)
    upper.set_xticks(x, [])
    lower.plot(x, [o["ef"] for o in own], "D" + joined, color="#1a1a1a", ms=2.5, lw=1)
    ticks = ["–", *(o["severity"] for o in own[1:])]
    lower.set_xticks(x, ticks, fontsize=6)
    lower.set_xlabel(PERTURBATIONS[name].unit, fontsize=7)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run, print, draw."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--model", type=Path, default=None)
    parser.add_argument("--patients", type=int, default=20)
    parser.add_argument("--only", type=lambda text: text.split(","), default=[])
    parser.add_argument("--deal", action="store_true")
    parser.add_argument("--figure-only", action="store_true")
    options = parser.parse_args(arguments)
    unknown = set(options.only) - set(PERTURBATIONS)
    if unknown:
        parser.error(f"unknown: {', '.join(sorted(unknown))}; known: {', '.join(PERTURBATIONS)}")
    model = load_model(options.model)
    path = options.out / "robustness.csv"
    if not options.figure_only:
        path = run(model, options)
    own = model.card.tensors_sha256[:12]
    rows = judged([row for row in read_rows(path) if row["model"] == own], model)
    found = summary(rows)
    draw(found, options.out)
    return show(found)


if __name__ == "__main__":
    sys.exit(main())
