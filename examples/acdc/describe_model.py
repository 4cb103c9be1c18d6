"""Write the results of evaluations into a model's card: ``python describe_model.py --help``.

Reads the folders that ``cardiometa evaluate`` wrote (the folds of ``cross_validate.py``, other
hospitals' hearts), the robustness battery and the quality block, and
writes the model file anew with its card, ``MODEL_CARD.md``, ``model.json`` and the pictures. The
weights and their digest do not change. Numbers are never typed by hand.
"""

from __future__ import annotations

import argparse
import csv
import json
import shutil
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cardiometa.segmentation.model import (
    Model,
    card_markdown,
    load_model,
    model_bytes,
    parse_card,
    tensors_of,
)

STRUCTURES = {
    "lv_cavity": "LV cavity",
    "lv_myocardium": "LV myocardium",
    "rv_cavity": "RV cavity",
}
SHORT = {"lv_cavity": "lv", "lv_myocardium": "myo", "rv_cavity": "rv"}
MEASURES = {
    "lv_edv_ml": "LV EDV, mL",
    "lv_esv_ml": "LV ESV, mL",
    "lv_ef_percent": "LV EF, points",
    "lv_mass_g": "LV mass, g",
    "rv_edv_ml": "RV EDV, mL",
    "rv_esv_ml": "RV ESV, mL",
    "rv_ef_percent": "RV EF, points",
}
Rows = Sequence[Mapping[str, str]]


def read(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV file."""
    with path.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def interval(values: Sequence[float], seed: int = 1) -> tuple[float, float, float]:
    """Mean and its 95 % percentile-bootstrap interval over patients."""
    array = np.asarray(values, dtype=float)
    draws = np.random.default_rng(seed).integers(0, len(array), (4000, len(array)))
    low, high = np.percentile(array[draws].mean(axis=1), (2.5, 97.5))
    return float(array.mean()), float(low), float(high)


def dice_of(rows: Rows, structure: str, phase: str) -> dict[str, float]:
    """Dice by patient."""
    return {
        row["participant_id"]: float(row["dice"])
        for row in rows
        if row["structure"] == structure and row["phase"] == phase and row["dice"]
    }


def shown(values: Iterable[float], digits: int) -> str:
    """``mean (low to high)``."""
    mean, low, high = interval(list(values))
    return f"{mean:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def overlap_table(title: str, how: str, rows: Rows) -> dict[str, Any]:
    """Dice and distances by structure and phase, with intervals."""
    body = []
    for structure, name in STRUCTURES.items():
        for phase in ("ED", "ES"):
            own = [r for r in rows if r["structure"] == structure and r["phase"] == phase]
            dice = list(dice_of(rows, structure, phase).values())
            distances = [
                shown([float(r[key]) for r in own if r[key]], 1) for key in ("hd95_mm", "assd_mm")
            ]
            body.append([name, phase, str(len(dice)), shown(dice, 3), *distances])
    columns = [
        "structure",
        "phase",
        "hearts",
        "Dice",
        "Hausdorff 95, mm",
        "mean surface distance, mm",
    ]
    return {"title": title, "how": how, "columns": columns, "rows": body}


def group_table(title: str, how: str, rows: Rows, group: Callable[[str], str]) -> dict[str, Any]:
    """Mean Dice of ED and ES by structure in each group of patients."""
    patients = defaultdict(set)
    for row in rows:
        patients[group(row["participant_id"])].add(row["participant_id"])
    body = []
    for name in sorted(patients):
        cells = []
        for structure in STRUCTURES:
            both = [dice_of(rows, structure, phase) for phase in ("ED", "ES")]
            means = [
                (both[0][p] + both[1][p]) / 2 for p in patients[name] if all(p in b for b in both)
            ]
            cells.append(shown(sorted(means), 3))
        body.append([name, str(len(patients[name])), *cells])
    columns = ["group", "hearts", *(f"Dice {name}" for name in STRUCTURES.values())]
    return {"title": title, "how": how, "columns": columns, "rows": body}


def measure_table(title: str, how: str, errors: Mapping[str, Sequence[float]]) -> dict[str, Any]:
    """Bias, limits of agreement and mean absolute error of each measure."""
    body = []
    for measure, name in MEASURES.items():
        values = np.asarray(errors[measure])
        spread = 1.96 * float(values.std(ddof=1))
        bias = float(values.mean())
        body.append(
            [
                name,
                str(len(values)),
                shown(values.tolist(), 1),
                f"{bias - spread:.1f} to {bias + spread:.1f}",
                shown(np.abs(values).tolist(), 1),
            ]
        )
    columns = ["measure", "hearts", "bias", "limits of agreement", "mean absolute error"]
    return {"title": title, "how": how, "columns": columns, "rows": body}


def errors_of(folders: Iterable[Path]) -> dict[str, list[float]]:
    """Model minus reader of each measure, over folders with ``agreement/``."""
    found: dict[str, list[float]] = {name: [] for name in MEASURES}
    for folder in folders:
        for row in read(folder / "agreement" / "pairs.csv"):
            if row["measure"] in found:
                found[row["measure"]].append(float(row["model"]) - float(row["reference"]))
    return found


def accuracy_of(rows: Rows) -> dict[str, float]:
    """Mean Dice by structure and phase, for the card's first table."""
    found = {}
    for structure, short in SHORT.items():
        both = [
            float(np.mean(list(dice_of(rows, structure, phase).values()))) for phase in ("ED", "ES")
        ]
        found |= {f"{short}_ED": both[0], f"{short}_ES": both[1], f"{short}_mean": sum(both) / 2}
    return {key: round(value, 4) for key, value in found.items()}


def other_vendor_table(agreement: Rows, overlaps: Rows) -> dict[str, Any]:
    """The three GE cines: LV Dice on the contoured slices, volumes there."""
    body = []
    for patient in sorted({row["participant_id"] for row in overlaps}):
        own = [r for r in overlaps if r["participant_id"] == patient and r["dice"]]
        body += [
            [
                patient,
                r["phase"],
                STRUCTURES[r["structure"]],
                r["slices"],
                f"{float(r['dice']):.3f}",
            ]
            for r in own
        ]
    how = "GE 1.5 T (Sunnybrook), never trained on; on the slices that the reader contoured. "
    how += " ".join(
        f"{MEASURES[r['measure']]}: bias {float(r['bias']):.1f}, reader's mean "
        f"{float(r['mean_reference']):.1f}."
        for r in agreement
        if r["bias"] and r["measure"] in MEASURES
    )
    columns = ["heart", "phase", "structure", "slices", "Dice"]
    return {"title": "Another vendor", "how": how.strip(), "columns": columns, "rows": body}


def tables(arguments: argparse.Namespace) -> tuple[list[dict[str, Any]], dict[str, float]]:
    """All tables of the card, and the mean Dice of the folds."""
    groups = {r["participant_id"]: r["group"] for r in read(arguments.acdc)}
    folds = sorted(arguments.folds.glob("fold*"))
    fold_of = {
        row["participant_id"]: fold.name
        for fold in folds
        for row in read(fold / "agreement" / "overlap.csv")
    }
    rows = [row for fold in folds for row in read(fold / "agreement" / "overlap.csv")]
    accuracy = accuracy_of(rows)
    how = f"{len(folds)} networks, each tested on the patients it did not see, through the whole "
    how += "program; mean (95 % bootstrap interval over patients)."
    result = [
        overlap_table("Overlap, cross-validation", how, rows),
        measure_table("Measures, cross-validation", how, errors_of(folds)),
        group_table("By fold", how, rows, fold_of.__getitem__),
        group_table("By diagnosis, cross-validation", how, rows, groups.__getitem__),
    ]
    if arguments.external:
        how = "Hearts of other hospitals and scanners (M&Ms challenge, Campello 2021), two of them "
        how += "hypertrophic, never trained on but looked at while choosing; mean (95 % "
        how += "bootstrap interval, rough for so few)."
        rows = read(arguments.external / "agreement" / "overlap.csv")
        result += [
            overlap_table("Overlap, other hospitals", how, rows),
            measure_table("Measures, other hospitals", how, errors_of([arguments.external])),
        ]
    result += [json.loads(path.read_text(encoding="utf-8")) for path in arguments.table]
    if arguments.other_vendor:
        folder = arguments.other_vendor / "agreement"
        result.append(
            other_vendor_table(
                [
                    r
                    for r in read(folder / "agreement.csv")
                    if r["group_by"] in {"", "all"} and r["scans_used"] == "ok+review"
                ],
                read(folder / "overlap.csv"),
            )
        )
    return result, accuracy


def write_model(out: Path, model: Model, document: Mapping[str, Any]) -> None:
    """The weights with a new card, and the card for readers, into ``out``."""
    out.mkdir(parents=True, exist_ok=True)
    (out / "cardiometa-sax.safetensors").write_bytes(model_bytes(tensors_of(model), document))
    document = {**document, "tensors_sha256": model.card.tensors_sha256}
    (out / "model.json").write_text(
        json.dumps(document, indent=2, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8"
    )
    (out / "MODEL_CARD.md").write_text(card_markdown(parse_card(document)), encoding="utf-8")


def main() -> None:
    """Read, describe, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("--facts", type=Path, help="JSON of texts that replace the card's own")
    parser.add_argument("--acdc", type=Path, required=True, help="reference_volumes.csv")
    parser.add_argument("--folds", type=Path, required=True, help="WORK of cross_validate.py")
    parser.add_argument("--other-vendor", type=Path, help="segmented/, agreement/")
    parser.add_argument("--external", type=Path, help="segmented/, agreement/ of other hospitals")
    parser.add_argument("--table", type=Path, action="append", default=[], help="JSON of a table")
    parser.add_argument("--quality", type=Path, help="block of tests/bench/calibrate_quality.py")
    parser.add_argument("--picture", action="append", default=[], metavar="FILE=TITLE=CAPTION")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    model = load_model(arguments.model)
    document = dict(model.card.document)
    if arguments.facts:
        document |= json.loads(arguments.facts.read_text(encoding="utf-8"))
    document["tables"], document["accuracy"] = tables(arguments)
    if arguments.quality:
        document["quality"] = json.loads(arguments.quality.read_text(encoding="utf-8"))
    arguments.out.mkdir(parents=True, exist_ok=True)
    document["pictures"] = []
    for words in arguments.picture:
        source, title, caption = words.split("=", 2)
        shutil.copyfile(source, arguments.out / Path(source).name)
        entry = {"file": Path(source).name, "title": title, "caption": caption}
        document["pictures"].append(entry)
    write_model(arguments.out, model, document)


if __name__ == "__main__":
    main()
