"""``cardiometa withdraw``: remove participants' images and rows from an output, for good.

The list is written first: from then on the participant counts as withdrawn, whatever is killed.
Then the cohort's snapshot, the scans, the tables and the page, and last the mark on what was
computed from the old table. The same command again does what was left undone, and nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..cohort.analysis_table import MEASUREMENTS_NAME
from ..cohort.pseudonyms import key_check, pseudonym, read_key
from ..errors import InputError, Problem, UsageError
from ..files import RECORD_NAME, canonical_json, remove, remove_leftovers, sha256_file, write_text
from ..locking import OutputLock
from ..manifest import made_from, read_run_record
from ..measurement.radiomics import TABLE_NAME as RADIOMICS_TABLE
from ..pipeline.bids import clear_bids
from ..pipeline.cohort_snapshot import (
    SNAPSHOT_NAME,
    Snapshot,
    participants_of,
    read_snapshot,
    snapshot_text,
    without_participants,
)
from ..pipeline.merge import (
    PARQUET_NAME,
    RECORDS_NAME,
    SEGMENTS_NAME,
    STABILITY_TABLE,
    write_tables,
)
from ..pipeline.result_file import read_record
from ..privacy.withdrawal import (
    Mode,
    Participant,
    Withdrawals,
    derived_outputs,
    mark_outdated,
    read_withdrawals,
    remove_erased,
    with_key,
    write_withdrawals,
)
from ..reading.decisions import REVIEW_FOLDER, remove_participants
from .reading_package import CORRECTIONS

_TABLES = (
    *(MEASUREMENTS_NAME, PARQUET_NAME, RECORDS_NAME, "measurements.json", "participants.csv"),
    *("exclusions.csv", "flow.json", "report.html", SEGMENTS_NAME),
    *(RADIOMICS_TABLE, STABILITY_TABLE),
)


def run_withdraw(
    out: Path,
    participants: Sequence[str],
    *,
    keep_data: bool = False,
    derived: Sequence[Path] = (),
    pseudonymise_key: Path | None = None,
) -> dict[str, Any]:
    """Withdraw ``participants`` (``TRIAL/ID``) from an output of `segment`; what was done, unnamed.

    ``keep_data``: the rows stay and nothing new is added; else the participants are erased.
    ``derived``: folders made from OUT's table, marked as those next to OUT are. Raises UsageError,
    InputError, OutputError.
    """
    record = read_run_record(out)
    asked = _asked(participants, record, pseudonymise_key, out)
    mode: Mode = "no-new-data" if keep_data else "erased"
    with OutputLock(out):
        remove_leftovers(out)
        snapshot, listed = read_snapshot(out), read_withdrawals(out)
        present = [sha256_file(p) for p in [out / MEASUREMENTS_NAME] if p.is_file()]
        _refuse_unknown(asked, out, snapshot, listed)
        tables = (*listed.tables, *present)
        if foreign := [folder.name for folder in derived if not made_from(folder, tables)]:
            raise InputError(
                f"Nothing was withdrawn: {', '.join(foreign)} not made from a table of {out.name}.",
                hint="Name folders of reference-ranges, pool-trials or evaluate that were.",
            )
        if keep_data and (gone := sum(listed.mode(who) == "erased" for who in asked)):
            raise UsageError(
                f"{gone} of these participants were erased already: there are no rows to keep.",
                hint="Without --keep-data the command says what is left to do.",
            )
        listed = with_key(out, listed)
        if new := [who for who in asked if listed.mode(who) != mode]:
            modes: dict[str, Mode] = {**listed.modes, **{listed.hash(who): mode for who in new}}
            listed = replace(listed, modes=modes, tables=listed.tables if keep_data else tables)
            write_withdrawals(out, listed)
        removed, complete, marked = 0, bool(present), []
        if not keep_data:
            people = participants_of(snapshot.cohort)
            gone_all = {*asked, *(who for who in people if listed.mode(who) == "erased")}
            removed, complete = _erase(out, gone_all, snapshot, listed)
            made = [*(p.resolve() for p in derived), *derived_outputs(out, listed.tables)]
            marked = [*dict.fromkeys(made)]
            for folder in marked:
                mark_outdated(folder, gone_all)
                remove_participants(folder / CORRECTIONS, gone_all.__contains__)
    return {
        "mode": mode,
        "people": len(new),
        "already_withdrawn": len(asked) - len(new),
        "scans_removed": removed,
        "marked_stale": [folder.name for folder in marked],
        "tables_made_again": complete,
    }


def _asked(
    texts: Sequence[str], record: dict[str, Any], key_file: Path | None, out: Path
) -> list[Participant]:
    """The participants as OUT of `segment` names them; UsageError for what is not ``TRIAL/ID``."""
    if record["command"] != "segment":
        raise UsageError(
            f"{out.name} is an output of `{record['command']}`.",
            hint="Give OUT of `segment`; what was computed from it is named with --derived.",
        )
    found = []
    for text in texts:
        trial, _, participant = text.partition("/")
        if not (trial and participant):
            raise UsageError(
                f"--participant {text} is not TRIAL/ID.", hint="Say --participant ALPHA/001."
            )
        found.append((trial, participant))
    if key_file is not None:
        key = read_key(key_file)
        if record.get("options", {}).get("pseudonymise") != key_check(key):
            raise UsageError(
                f"{out.name} was not made with the key {key_file.name}.",
                hint="Give the key file of its `segment --pseudonymise`.",
            )
        found = [(trial, pseudonym(key, trial, one)) for trial, one in found]
    return list(dict.fromkeys(found))


def _refuse_unknown(
    asked: Sequence[Participant], out: Path, snapshot: Snapshot, listed: Withdrawals
) -> None:
    # What an earlier cohort left behind is the participant's as well.
    left = {(path.parent.name, path.name) for path in (out / "scans").glob("*/*") if path.is_dir()}
    known = participants_of(snapshot.cohort) | left
    problems = [
        Problem(
            where=f"--participant number {number}",
            what="the output has no such participant",
            why="No one would be withdrawn.",
            fix="Use trial and participant_id of its participants.csv; in an output of "
            "--pseudonymise that is the pseudonym, or say --pseudonymise KEYFILE here too.",
        )
        for number, who in enumerate(asked, start=1)
        if who not in known and listed.mode(who) is None
    ]
    if problems:
        raise InputError("Nothing was withdrawn.", problems=problems)


def _erase(
    out: Path, gone: set[Participant], snapshot: Snapshot, listed: Withdrawals
) -> tuple[int, bool]:
    """Remove scans and rows and make the tables again: scans removed, and if there are tables.

    An output whose run was stopped has no tables then: what it had contained those who are gone.
    """
    cohort = without_participants(snapshot.cohort, gone)
    removed = len(snapshot.cohort.scans) - len(cohort.scans)
    write_text(out / SNAPSHOT_NAME, snapshot_text(cohort, snapshot.card, snapshot.model_sha256))
    clear_bids(out)
    remove_erased(out, listed)
    remove_participants(out / REVIEW_FOLDER, lambda who: listed.mode(who) == "erased")
    read = (read_record(out, scan.key) for scan in cohort.scans)
    results = [result for result in read if result is not None]
    record = read_run_record(out)
    mine = tuple(f"correction {trial}/{participant}/" for trial, participant in gone)
    record["inputs"] = {n: v for n, v in record["inputs"].items() if not n.startswith(mine)}
    complete = len(results) == len(cohort.scans)
    if complete:
        made = write_tables(
            out, cohort, results, card=snapshot.card, model_sha256=snapshot.model_sha256
        )
        record["run"] = {**record.get("run", {}), "outputs": made.outputs}
    else:
        remove(out, _TABLES)
        record.get("run", {}).pop("outputs", None)
    write_text(out / RECORD_NAME, canonical_json(record))
    return removed, complete
