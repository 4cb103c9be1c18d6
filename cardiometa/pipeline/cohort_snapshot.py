"""``cohort.json`` of an output: the cohort as the tables need it, so that they can be made again.

It has the harmonised people, the scans and the trials' facts, which the tables show as well, and
the model's card; no path and no column that the cohort dropped.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import asdict, astuple, dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from ..cohort.models import Cohort, CohortScan, NotObtained, TrialDefinition
from ..cohort.pseudonyms import pseudonym
from ..errors import InputError, ModelError, UsageError, nearest
from ..files import canonical_json, read_json
from ..privacy.withdrawal import Participant, read_withdrawals
from ..records import ScanKey, ScanSource, SeriousWarning, severity
from ..segmentation.model import ModelCard, parse_card

SNAPSHOT_NAME = "cohort.json"
_VERSION = 1
# What a user of the table needs of a trial's definition; never its paths.
SHOWN_FACTS = (
    *("randomised", "papillary", "healthy_rule", "registry_id", "design"),
    *("n_sought", "n_randomised", "permission"),
)
_TYPES = frozenset(
    ["object", "str", "string", "bool", "boolean", "float64", "Float64", "int64", "Int64"]
)  # of the participants' columns
_AS_THEY_ARE = (
    *("name", "carried", "reported", "notes", "warnings", "input_sha256"),
    *("key_check", "withdrawn"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """What ``cohort.json`` contains. The cohort's scans have no source and its trials no paths."""

    cohort: Cohort
    card: ModelCard
    model_sha256: str


def snapshot_text(cohort: Cohort, card: ModelCard, model_sha256: str) -> str:
    """The text of ``cohort.json``; equal cohorts, equal bytes."""
    table = cohort.participants
    return canonical_json(
        {
            "snapshot_version": _VERSION,
            "trials": [
                {n: getattr(trial, n) for n in ("name", *SHOWN_FACTS, "cluster", "carry", "strata")}
                for trial in cohort.trials
            ],
            "people": {
                str(name): {
                    "type": str(column.dtype),
                    "values": list(column.astype(object).where(column.notna(), None)),
                }
                for name, column in table.items()
            },
            "columns": [str(name) for name in table.columns],
            "scans": [
                {"key": astuple(s.key), "visit_day": s.visit_day, "reported": s.reported}
                for s in cohort.scans
            ],
            "visits_without_images": map(astuple, cohort.visits_without_images),
            "same_person": [map(astuple, group) for group in cohort.same_person],
            "not_obtained": [asdict(entry) for entry in cohort.not_obtained],
            **{name: getattr(cohort, name) for name in _AS_THEY_ARE},
            "serious": [one for one in cohort.warnings if severity(one) == "serious"],
            "model": {"sha256": model_sha256, "card": card.document},
        }
    )


def read_snapshot(out: Path) -> Snapshot:
    """The cohort of an output; raises InputError where it is missing or damaged."""
    path = out / SNAPSHOT_NAME
    if not path.is_file():
        raise InputError(
            f"The folder {out.name} does not contain {SNAPSHOT_NAME}.",
            hint="Give the folder that `segment --out` wrote to.",
        )
    document = read_json(path)
    try:
        if document["snapshot_version"] != _VERSION:
            raise InputError(
                f"{SNAPSHOT_NAME} is of another version of this program.",
                hint="Run the same `segment` command again with this version.",
            )
        return Snapshot(
            cohort=_cohort(document),
            card=parse_card(document["model"]["card"]),
            model_sha256=str(document["model"]["sha256"]),
        )
    except (KeyError, TypeError, ValueError, AttributeError, ModelError) as error:
        raise InputError(
            f"{SNAPSHOT_NAME} is damaged.", hint="Run the same `segment` command again."
        ) from error


def _cohort(document: Mapping[str, Any]) -> Cohort:
    people = {}
    for name in document["columns"]:
        column = document["people"][name]
        if not (isinstance(column["type"], str) and column["type"] in _TYPES):
            raise ValueError("a type of column that no cohort has")
        people[name] = pd.Series(column["values"], dtype=column["type"])
    nowhere = ScanSource(kind="images", paths=())

    def lists(table: Mapping[str, Any], *names: str) -> dict[str, Any]:
        return {name: tuple(table[name]) for name in names}

    return Cohort(
        **lists(document, "carried", "reported", "notes"),
        **{n: document[n] for n in ("name", "input_sha256", "key_check")},
        withdrawn=int(document["withdrawn"]),
        trials=tuple(
            TrialDefinition(**{**trial, **lists(trial, "carry", "strata")})
            for trial in document["trials"]
        ),
        participants=pd.DataFrame(people),
        scans=tuple(
            CohortScan(**{**scan, "key": _scan_key(scan["key"]), "source": nowhere})
            for scan in document["scans"]
        ),
        visits_without_images=tuple(_scan_key(key) for key in document["visits_without_images"]),
        same_person=tuple(
            tuple(map(_scan_key, group)) for group in document.get("same_person", ())
        ),
        not_obtained=tuple(NotObtained(**entry) for entry in document["not_obtained"]),
        warnings=tuple(
            SeriousWarning(one) if one in document.get("serious", ()) else str(one)
            for one in document["warnings"]
        ),
    )


def _scan_key(parts: list[str]) -> ScanKey:
    trial, participant, visit = (str(part) for part in parts)
    return ScanKey(trial=trial, participant=participant, visit=visit)


def participants_of(cohort: Cohort) -> set[Participant]:
    """Trial and id of all in the roster, and of those with scans alone."""
    return {*_roster(cohort), *((scan.key.trial, scan.key.participant) for scan in cohort.scans)}


def _roster(cohort: Cohort) -> list[Participant]:
    rows = cohort.participants
    return list(zip(rows["trial"].map(str), rows["participant_id"].map(str), strict=True))


def without_participants(cohort: Cohort, gone: Collection[Participant]) -> Cohort:
    """The cohort without some participants: their rows, scans and visits."""

    def stays(key: ScanKey) -> bool:
        return (key.trial, key.participant) not in gone

    rows = [who not in gone for who in _roster(cohort)]
    return replace(
        cohort,
        participants=cohort.participants[rows].reset_index(drop=True),
        scans=tuple(scan for scan in cohort.scans if stays(scan.key)),
        visits_without_images=tuple(key for key in cohort.visits_without_images if stays(key)),
        same_person=tuple(tuple(filter(stays, group)) for group in cohort.same_person),
    )


def part_of(
    cohort: Cohort, trials: Collection[str], participants: Collection[str], key: bytes | None
) -> Cohort:
    """The cohort with these trials and participants (``ID`` or ``TRIAL/ID``) only, all if empty.

    ``key``: participants may be named by their id before pseudonyms. A serious warning says that
    it is a part. Raises UsageError with every trial and participant that the cohort lacks.
    """
    if not (trials or participants):
        return cohort
    names = [trial.name for trial in cohort.trials]
    problems = [f"--trial {name}: {nearest(name, names)}" for name in trials if name not in names]
    everyone = participants_of(cohort)
    chosen: set[Participant] = set()
    for text in participants:
        trial, _, person = text.rpartition("/")
        of_trial = [name for name in names if trial in ("", name)]
        ids = {(name, person) for name in of_trial}
        if key is not None:
            ids |= {(name, pseudonym(key, name, person)) for name in of_trial}
        if not ids & everyone:
            shown = text if key is None else "(withheld)"
            problems.append(f"--participant {shown}: the cohort has no such participant.")
        chosen |= ids & everyone
    if problems:
        raise UsageError("\n  ".join(problems), hint="`cardiometa check` counts what there is.")
    kept = {
        who
        for who in everyone
        if who[0] in (trials or names) and (not participants or who in chosen)
    }
    part = without_participants(cohort, everyone - kept)
    if not part.scans:
        raise UsageError("--trial and --participant leave no scan.")
    facts: dict[str, Any] = dict.fromkeys(("n_sought", "n_randomised")) if participants else {}
    tables = ("cohort.toml", *(f"{name}." for name in trials or names))
    warning = SeriousWarning(
        f"Only a part of the cohort: {len(kept)} of {len(everyone)} participants and "
        f"{len(part.scans)} of {len(cohort.scans)} scans (--trial, --participant)."
    )
    return replace(
        part,
        trials=tuple(replace(t, **facts) for t in cohort.trials if t.name in (trials or names)),
        not_obtained=(),
        input_sha256={k: v for k, v in cohort.input_sha256.items() if k.startswith(tables)},
        warnings=(*cohort.warnings, warning),
    )


def without_withdrawn(out: Path, cohort: Cohort) -> Cohort:
    """The cohort as OUT may have it: without those erased, and with nothing new of the others.

    Nothing is written. Raises InputError where the list or its key cannot be read.
    """
    withdrawals = read_withdrawals(out)
    if not withdrawals.modes:
        return cohort
    modes = {who: withdrawals.mode(who) for who in participants_of(cohort)}
    erased = {who for who, mode in modes.items() if mode == "erased"}
    kept = {who for who, mode in modes.items() if mode == "no-new-data"}
    if erased:
        cohort = without_participants(cohort, erased)
    if not kept:
        return cohort
    before = read_snapshot(out).cohort  # what there was when they withdrew
    known = {scan.key: scan for scan in before.scans}
    scans = []
    for scan in cohort.scans:
        if (scan.key.trial, scan.key.participant) not in kept:
            scans.append(scan)
        elif scan.key in known:
            old = known[scan.key]
            scans.append(replace(scan, visit_day=old.visit_day, reported=old.reported))
    blank = [
        *(v for v in cohort.visits_without_images if (v.trial, v.participant) not in kept),
        *(v for v in before.visits_without_images if (v.trial, v.participant) in kept),
    ]
    rows, old_rows = cohort.participants.copy(), before.participants
    places = {who: at for at, who in enumerate(_roster(before))}
    for at, who in enumerate(_roster(cohort)):
        if who in kept and who in places:
            for number, name in enumerate(rows.columns):  # a new column is empty for them
                was = old_rows[name].iloc[places[who]] if name in old_rows else None
                rows.iloc[at, number] = was
    return replace(
        cohort,
        participants=rows,
        scans=tuple(scans),
        visits_without_images=tuple(sorted(blank)),
    )
