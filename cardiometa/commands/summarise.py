"""``cardiometa summarise``: a table in, one file of sums out, and the site's ledger kept."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..cohort.models import TableOptions
from ..errors import InputError, UsageError
from ..files import canonical_json, read_json, sha256_bytes, write_text
from ..manifest import RESEARCH_USE, version
from ..pooling.options import DIFFERENCES, PoolingOptions

LEDGER_NAME = "cardiometa-ledger.json"
_LEDGER_KIND = "cardiometa ledger; it stays at the site"


@dataclass(frozen=True, slots=True, kw_only=True)
class SummariseRequest:
    """What a user asks for; ``ledger`` None is `LEDGER_NAME` beside ``out``."""

    table: Path
    out: Path
    options: PoolingOptions
    table_options: TableOptions
    ledger: Path | None = None
    plan_sha256: str | None = None
    overwrite: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class SummariseOutcome:
    """The written document and what a person should read before sending it."""

    document: Mapping[str, Any]
    text: str


def run_summarise(request: SummariseRequest) -> SummariseOutcome:
    """Read, sum, guard, check the ledger, write the ledger and then the file.

    Raises UsageError (2), InputError (3) and EstimationError (5); then nothing is written.
    """
    from ..cohort.analysis_table import read_analysis_table
    from ..pooling.federated.guards import check_ledger, guarded_summary, ledger_entries
    from ..pooling.federated.site import site_document
    from ..pooling.first_stage.first_stage import first_stage
    from .pool_trials import roster_of

    options = request.options
    if options.effect not in DIFFERENCES:
        raise UsageError(
            f"--effect {options.effect} cannot be summarised in sums.",
            hint=f"One of {', '.join(DIFFERENCES)}.",
        )
    if options.min_cell < 1:
        raise UsageError("--min-cell must be at least 1 for what leaves the site.")
    if request.out.exists() and not request.overwrite:
        raise UsageError(
            f"{request.out.name} is there already.", hint="Another --out, or --overwrite."
        )
    table = read_analysis_table(request.table, request.table_options)
    roster = roster_of(request.table, request.table_options)
    stage = first_stage(table, options, roster)
    release = guarded_summary(stage, table, options)
    place = request.ledger or request.out.parent / LEDGER_NAME
    begun = not place.exists()
    ledger = _ledger(place)
    entries = ledger_entries(release, stage, bytes.fromhex(ledger["key"]))
    check_ledger(entries, [item["sets"] for item in ledger["summaries"]], options.min_cell)
    document = {
        **site_document(release.site),
        "cardiometa_version": version(),
        "plan_sha256": request.plan_sha256,
        "notice": RESEARCH_USE,
    }
    text = canonical_json(document)
    # The ledger first: a summary that is not in it must not exist.
    if entries not in [item["sets"] for item in ledger["summaries"]]:
        ledger["summaries"].append({"sha256": sha256_bytes(text.encode()), "sets": entries})
        write_text(place, canonical_json(ledger), secret=True)
    write_text(request.out, text)
    return SummariseOutcome(document=document, text=_text(document, place.name, begun=begun))


def _ledger(path: Path) -> dict[str, Any]:
    """The ledger, or a new one with its own key; InputError where it is damaged."""
    if not path.exists():
        return {"kind": _LEDGER_KIND, "key": secrets.token_hex(32), "summaries": []}
    found = read_json(path)
    try:
        whole = found["kind"] == _LEDGER_KIND and len(bytes.fromhex(found["key"])) == 32
        sets = [people for item in found["summaries"] for people in item["sets"].values()]
        whole = whole and all(isinstance(people, list) for people in sets)
        whole = whole and all(isinstance(person, str) for people in sets for person in people)
    except (AttributeError, KeyError, TypeError, ValueError):
        whole = False
    if not whole:
        raise InputError(
            f"{path.name} is not a ledger, or is damaged.",
            hint="Restore it: without it nobody can know what earlier summaries told. Or name "
            "another file with --ledger if no summary has left this site.",
        )
    return dict(found)


def _text(document: Mapping[str, Any], ledger: str, *, begun: bool) -> str:
    """What is in the file, in words."""
    lines = [f"Model {document['model_sha256'][:16]}; sums of:"]
    lines += [_trial_line(item) for item in document["trials"]]
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
            "A new ledger was begun: if sums of these people left before, say --ledger with the "
            "old one, or the two can be subtracted."
        )
    return "\n".join(lines) + "\n"


def _trial_line(item: Mapping[str, Any]) -> str:
    arms = ", ".join(f"{arm} {part['n']}" for arm, part in item["arms"].items())
    return f"  {item['trial']}: {arms}; columns {', '.join(item['columns'])}"
