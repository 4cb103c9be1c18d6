"""``cardiometa summarise``: a table in, one file of sums out, and the site's ledger kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..cohort.models import TableOptions
from ..errors import UsageError
from ..files import canonical_json, sha256_bytes, write_text
from ..manifest import notice_for, version
from ..pooling.federated.site import checked_summary, site_document
from ..pooling.first_stage.first_stage import first_stage
from ..pooling.options import DIFFERENCES, PoolingOptions
from ..privacy.ledger import LEDGER_NAME, check_ledger, ledger_entries, read_ledger
from ..records import severity
from .pooling_input import read_rows


@dataclass(frozen=True, slots=True, kw_only=True)
class SummariseOutcome:
    """The written document and what to read before sending it."""

    document: Mapping[str, Any]
    text: str
    warnings: tuple[str, ...] = ()


def run_summarise(
    path: Path,
    out: Path,
    options: PoolingOptions,
    columns: TableOptions,
    *,
    ledger_path: Path | None = None,
    plan_sha256: str | None = None,
    overwrite: bool = False,
) -> SummariseOutcome:
    """Read, sum, check the ledger (default: `LEDGER_NAME` next to ``out``), write it and the file.

    Raises UsageError (2), InputError (3) and EstimationError (5); then nothing is written.
    """
    if options.effect not in DIFFERENCES:
        raise UsageError(
            f"--effect {options.effect} cannot be summarised in sums.",
            hint=f"One of {', '.join(DIFFERENCES)}.",
        )
    if options.min_cell < 1:
        raise UsageError("--min-cell must be at least 1 for what leaves the site.")
    if out.exists() and not overwrite:
        raise UsageError(f"{out.name} already exists.", hint="Another --out, or --overwrite.")
    table, options, output = read_rows([path], options, columns, command="summarise")
    roster = output.roster(columns)
    stage = first_stage(table, options, roster, with_rows=True)
    site, sets = checked_summary(stage, table, options)
    place = ledger_path or out.parent / LEDGER_NAME
    begun = not place.exists()
    ledger = read_ledger(place)
    people = stage.people
    who = zip(
        people.index, people["trial"].map(str), people["participant_id"].map(str), strict=True
    )
    entries = ledger_entries(sets, who, bytes.fromhex(ledger["key"]))
    check_ledger(entries, [item["sets"] for item in ledger["summaries"]], options.min_cell)
    document = {
        **site_document(site),
        "cardiometa_version": version(),
        "plan_sha256": plan_sha256,
        "accepted": [w for w in table.warnings if severity(w) == "serious"],
        "notice": notice_for("; ".join(site.conventions.get("model_licence", ()))),
    }
    text = canonical_json(document)
    # The ledger first: a summary that is not in it must not exist.
    if entries not in [item["sets"] for item in ledger["summaries"]]:
        ledger["summaries"].append({"sha256": sha256_bytes(text.encode()), "sets": entries})
        write_text(place, canonical_json(ledger), secret=True)
    write_text(out, text)
    shown = _text(document, place.name, begun=begun)
    return SummariseOutcome(document=document, text=shown, warnings=table.warnings)


def _text(document: Mapping[str, Any], ledger: str, *, begun: bool) -> str:
    """A description of the file."""
    lines = [f"Model {document['model_sha256'][:16]}; sums of:"]
    for item in document["trials"]:
        arms = ", ".join(f"{arm} {part['n']}" for arm, part in item["arms"].items())
        lines.append(f"  {item['trial']}: {arms}; columns {', '.join(item['columns'])}")
    for one in document["modifiers"]:
        name = f"{one['name']}{' in bands' if one['banded'] else ''}"
        trials = ", ".join(item["trial"] for item in one["trials"])
        lines.append(f"  by {name} ({one['arm']}): {trials}")
    refused: Sequence[str] = document["refused"]
    if refused:
        lines.append("Refused, and not in the file:")
        lines += [f"  {text}" for text in refused]
    lines.append(f"What left is in {ledger}, which stays at the site.")
    if begun:
        lines.append(
            "A new ledger was begun: if sums of these participants left before, say --ledger with "
            "the old one, or the two can be subtracted."
        )
    return "\n".join(lines) + "\n"
