"""The model card for people: Markdown made from the card in the model file, never by hand."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from .card import ModelCard

_ON_GRID = "at the network's grid before any cleaning"
_STRUCTURES = (("lv", "LV cavity"), ("myo", "LV myocardium"), ("rv", "RV cavity"))


def _list(items: Iterable[Any]) -> list[str]:
    return [f"- {item}" for item in items]


def _accuracy(accuracy: Mapping[str, Any]) -> list[str]:
    lines = ["| structure | ED | ES | mean |", "|---|---|---|---|"]
    for key, name in _STRUCTURES:
        cells = [accuracy.get(f"{key}_{phase}") for phase in ("ED", "ES", "mean")]
        shown = " | ".join("" if v is None else f"{v:.3f}" for v in cells)
        lines.append(f"| {name} | {shown} |")
    return lines


def _table(table: Mapping[str, Any]) -> list[str]:
    """One table of the card: its title, how it was made, columns and rows of text."""
    columns = [str(name) for name in table["columns"]]
    rows = [[str(cell) for cell in row] for row in table["rows"]]
    return [
        f"### {table['title']}",
        "",
        str(table.get("how", "")),
        "",
        f"| {' | '.join(columns)} |",
        f"|{'---|' * len(columns)}",
        *(f"| {' | '.join(row)} |" for row in rows),
        "",
    ]


def _picture(picture: Mapping[str, Any]) -> list[str]:
    return [f"![{picture['title']}]({picture['file']})", "", str(picture.get("caption", "")), ""]


def _quality(document: Mapping[str, Any]) -> list[str]:
    block = document.get("quality")
    return ["## Quality score", "", str(block["sentence"]), ""] if block else []


def card_markdown(card: ModelCard) -> str:
    """``MODEL_CARD.md`` of a model."""
    document = card.document
    training = document.get("training", {})
    lines = [
        f"# Model card: {card.model_id}",
        "",
        str(document.get("description", "")),
        "",
        f"Classes, in the network's order: {', '.join(card.classes)}.",
        (
            f"Input: short-axis slices at {card.spacing_mm} mm, {card.context_slices} slices deep, "
            f"crops of {card.crop} pixels, clipped to percentiles 1 to 99 and z-scored by scan."
        ),
        f"Weights: SHA-256 of the tensors {card.tensors_sha256}.",
        "",
        "## Licence and use",
        "",
        str(document.get("licence", "")),
        "",
        str(document.get("intended_use", "")),
        "",
        "## Training data",
        "",
        *_list(training.get("data", [])),
        "",
        "Patients held out (never trained on): " + ", ".join(training.get("held_out", [])) + ".",
        "",
        *_list(f"stage {stage}" for stage in training.get("stages", [])),
        "",
        "## Accuracy on the patients held out",
        "",
        f"Dice of whole volumes, mean over patients, {document.get('accuracy_how', _ON_GRID)}:",
        "",
        *_accuracy(document.get("accuracy", {})),
        "",
        *_list(f"{key}: {value}" for key, value in document.get("accuracy_notes", {}).items()),
        "",
        *(line for table in document.get("tables", []) for line in _table(table)),
        *(line for picture in document.get("pictures", []) for line in _picture(picture)),
        *_quality(document),
        "## Limits",
        "",
        *_list(document.get("limits", [])),
        "",
        "## Recipe",
        "",
        *_list(f"{key}: {value}" for key, value in sorted(training.get("recipe", {}).items())),
    ]
    return "\n".join(lines).rstrip() + "\n"
