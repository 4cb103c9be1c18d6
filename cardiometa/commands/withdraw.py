"""``cardiometa withdraw``: images and rows of people out of an output; nobody brings them back.

The list is written first: from then on the person counts as withdrawn, whatever is killed. Then
the cohort's snapshot, the scans, the tables and the page, and last the mark on what was computed
from the old table. The same command again does what was left undone, and nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..cohort.pseudonyms import key_check, pseudonym, read_key
from ..errors import InputError, Problem, UsageError
from ..files import RECORD_NAME, canonical_json, remove, remove_leftovers, sha256_file, write_text
from ..locking import Claim, OutputLock
from ..pipeline.cohort_snapshot import SNAPSHOT_NAME, Snapshot, read_snapshot, snapshot_text
from ..pipeline.merge import PARQUET_NAME, RECORDS_NAME, gather
from ..pipeline.result_file import read_record
from ..pipeline.withdrawal_registry import (
    Mode,
    Person,
    Withdrawals,
    read_withdrawals,
    remove_erased,
    with_key,
    without_people,
    write_withdrawals,
)
from ..records import ScanResult
from .outdated import beside, made_from, mark_stale, record_of

MEASUREMENTS = "measurements.csv"
_TABLES = (
    MEASUREMENTS,
    PARQUET_NAME,
    RECORDS_NAME,
    "measurements.json",
    "participants.csv",
    "exclusions.csv",
    "flow.json",
    "report.html",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class WithdrawRequest:
    """What a user asks for; ``people`` as ``TRIAL/ID``, ``derived`` folders made from OUT's table.

    ``keep_data``: the rows stay and nothing new is added; else the person is erased.
    """

    out: Path
    people: tuple[str, ...]
    keep_data: bool = False
    derived: tuple[Path, ...] = ()
    pseudonymise_key: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class WithdrawOutcome:
    """What was done: people now and before, folders marked, and whether OUT has its tables."""

    mode: Mode
    people: int
    already: int
    scans_removed: int
    marked: tuple[str, ...]
    tables: bool

    def document(self) -> dict[str, Any]:
        """What ``--json`` prints: nobody's id."""
        return {
            "mode": self.mode,
            "people": self.people,
            "already_withdrawn": self.already,
            "scans_removed": self.scans_removed,
            "marked_stale": list(self.marked),
            "tables_made_again": self.tables,
        }


def run_withdraw(request: WithdrawRequest) -> WithdrawOutcome:
    """Withdraw people from an output of `segment`; raises UsageError, InputError, OutputError."""
    out = request.out
    record = record_of(out)
    if record["command"] != "segment":
        raise UsageError(
            f"{out.name} is an output of `{record['command']}`.",
            hint="Give OUT of `segment`; what was computed from it is named with --derived.",
        )
    people = _people(request, record)
    with OutputLock(out, Claim(command="withdraw")):
        remove_leftovers(out)
        snapshot, withdrawals = read_snapshot(out), read_withdrawals(out)
        known = _known(out, snapshot)
        _refuse_unknown(people, known, withdrawals)
        _refuse_foreign(request, withdrawals)
        if request.keep_data:
            return _no_new_data(request, people, withdrawals)
        return _erase(request, people, snapshot, withdrawals)


def _people(request: WithdrawRequest, record: dict[str, Any]) -> list[Person]:
    """The people asked for as OUT calls them; UsageError for what is no ``TRIAL/ID``."""
    found = []
    for text in request.people:
        trial, sign, person = text.partition("/")
        if not (trial and sign and person):
            raise UsageError(
                f"--participant {text} is not TRIAL/ID.", hint="Say --participant ALPHA/001."
            )
        found.append((trial, person))
    if request.pseudonymise_key is None:
        return list(dict.fromkeys(found))
    key = read_key(request.pseudonymise_key)
    if record.get("options", {}).get("pseudonymise") != key_check(key):
        raise UsageError(
            f"{request.out.name} was not made with the key {request.pseudonymise_key.name}.",
            hint="Give the key file of its `segment --pseudonymise`.",
        )
    return list(dict.fromkeys((trial, pseudonym(key, trial, person)) for trial, person in found))


def _known(out: Path, snapshot: Snapshot) -> set[Person]:
    rows = snapshot.cohort.participants
    known = set(zip(rows["trial"].map(str), rows["participant_id"].map(str), strict=True))
    # What an earlier cohort left behind is the person's all the same.
    for trial in (out / "scans").glob("*"):
        known |= {(trial.name, person.name) for person in trial.glob("*") if person.is_dir()}
    return known


def _refuse_unknown(people: Sequence[Person], known: set[Person], listed: Withdrawals) -> None:
    problems = [
        Problem(
            where=f"--participant number {number}",
            what="the output has no such participant",
            why="Nobody would be withdrawn.",
            fix="Use trial and participant_id of its participants.csv; in an output of "
            "--pseudonymise that is the pseudonym, or say --pseudonymise KEYFILE here too.",
        )
        for number, who in enumerate(people, start=1)
        if who not in known and listed.mode(who) is None
    ]
    if problems:
        raise InputError("Nothing was withdrawn.", problems=problems)


def _refuse_foreign(request: WithdrawRequest, listed: Withdrawals) -> None:
    """Every folder of --derived must be made from a table of this output."""
    tables = [*listed.tables, *_present_table(request.out)]
    problems = [
        Problem(
            where=folder.name,
            what="it was not made from a table of this output",
            fix="Name a folder of reference-ranges, pool-trials or evaluate that was.",
        )
        for folder in request.derived
        if not made_from(folder, tables)
    ]
    if problems:
        raise InputError("Nothing was withdrawn.", problems=problems)


def _present_table(out: Path) -> list[str]:
    path = out / MEASUREMENTS
    return [sha256_file(path)] if path.is_file() else []


def _no_new_data(
    request: WithdrawRequest, people: Sequence[Person], listed: Withdrawals
) -> WithdrawOutcome:
    gone = [who for who in people if listed.mode(who) == "erased"]
    if gone:
        raise UsageError(
            f"{len(gone)} of these people were erased already: there are no rows to keep.",
            hint="Without --keep-data the command says what is left to do.",
        )
    listed = with_key(request.out, listed)
    fresh = [who for who in people if listed.mode(who) is None]
    if fresh:
        modes: dict[str, Mode] = {**listed.people}
        modes |= {listed.hash(who): "no-new-data" for who in fresh}
        write_withdrawals(request.out, replace(listed, people=modes))
    return WithdrawOutcome(
        mode="no-new-data",
        people=len(fresh),
        already=len(people) - len(fresh),
        scans_removed=0,
        marked=(),
        tables=(request.out / MEASUREMENTS).is_file(),
    )


def _erase(
    request: WithdrawRequest, people: Sequence[Person], snapshot: Snapshot, listed: Withdrawals
) -> WithdrawOutcome:
    out = request.out
    listed = with_key(out, listed)
    fresh = [who for who in people if listed.mode(who) != "erased"]
    if fresh:
        modes: dict[str, Mode] = {**listed.people}
        modes |= {listed.hash(who): "erased" for who in fresh}
        tables = (*listed.tables, *_present_table(out))
        listed = replace(listed, people=modes, tables=tables)
        write_withdrawals(out, listed)
    cohort = snapshot.cohort
    rows = zip(cohort.participants["trial"], cohort.participants["participant_id"], strict=True)
    gone = {(str(t), str(p)) for t, p in rows} | {
        (s.key.trial, s.key.participant) for s in cohort.scans
    }
    gone = {who for who in gone if listed.mode(who) == "erased"} | set(people)
    removed = sum((scan.key.trial, scan.key.participant) in gone for scan in cohort.scans)
    left = replace(snapshot, cohort=without_people(cohort, gone))
    write_text(out / SNAPSHOT_NAME, snapshot_text(left.cohort, left.card, left.model_sha256))
    remove_erased(out, listed)
    made = _tables_again(out, left, gone)
    marked = dict.fromkeys([*(p.resolve() for p in request.derived), *beside(out, listed.tables)])
    for folder in marked:
        mark_stale(folder, gone)
    return WithdrawOutcome(
        mode="erased",
        people=len(fresh),
        already=len(people) - len(fresh),
        scans_removed=removed,
        marked=tuple(folder.name for folder in marked),
        tables=made,
    )


def _tables_again(out: Path, snapshot: Snapshot, gone: set[Person]) -> bool:
    """The tables, the page and the record without some people; False where scans are not done yet.

    An output whose run was stopped has no tables then: what it had held the people who are gone.
    """
    results: list[ScanResult] = []
    for scan in snapshot.cohort.scans:
        result = read_record(out, scan.key)
        if result is not None:
            results.append(result)
    complete = len(results) == len(snapshot.cohort.scans)
    record = record_of(out)
    mine = tuple(f"correction {trial}/{person}/" for trial, person in gone)
    record["inputs"] = {n: v for n, v in record["inputs"].items() if not n.startswith(mine)}
    if complete:
        gathered = gather(
            out, snapshot.cohort, results, card=snapshot.card, model_sha256=snapshot.model_sha256
        )
        record["run"] = {**record.get("run", {}), "outputs": gathered.outputs}
    else:
        remove(out, _TABLES)
        record.get("run", {}).pop("outputs", None)
    write_text(out / RECORD_NAME, canonical_json(record))
    return complete
