"""The flow of trials, participants and scans, from sought to analysed (PRISMA-IPD, Stewart 2015).

Each level closes: ``obtained = analysed + excluded``. What nobody said is None, never guessed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from ..records import Exclusion, ScanKey, ScanResult
from .models import Cohort

Flow = dict[str, dict[str, int | None]]
Person = tuple[str, str]


def exclusions_of(cohort: Cohort, results: Sequence[ScanResult]) -> list[Exclusion]:
    """One row for each failed scan, each visit without images, each participant not analysed."""
    rows = [_scan_exclusion(result) for result in results if result.status == "failed"]
    rows += [
        Exclusion(
            stage="scan",
            trial=key.trial,
            participant_id=key.participant,
            visit=key.visit,
            code="no-images",
            sentence="The scans table names no images for this visit.",
        )
        for key in cohort.visits_without_images
    ]
    analysed = _people(result.key for result in results if result.status != "failed")
    failed = Counter((r.key.trial, r.key.participant) for r in results if r.status == "failed")
    blank = _people(cohort.visits_without_images)
    people = cohort.participants
    columns = ("trial", "participant_id", "death_day", "withdrawal_day", "reason_no_scan")
    for trial, person, death, withdrawal, reason in zip(
        *(people[name] for name in columns), strict=True
    ):
        who = (trial, person)
        if who in analysed:
            continue
        code, sentence = _why_not(failed[who], reason, (death, withdrawal), visit=who in blank)
        rows.append(
            Exclusion(
                stage="participant",
                trial=trial,
                participant_id=person,
                visit="",
                code=code,
                sentence=sentence,
            )
        )
    order = {"scan": 0, "participant": 1}
    return sorted(rows, key=lambda e: (order[e.stage], e.trial, e.participant_id, e.visit))


def flow_of(cohort: Cohort, results: Sequence[ScanResult]) -> Flow:
    """The value of ``flow.json``: counts by level and step."""
    statuses = Counter(result.status for result in results)
    used = [result.key for result in results if result.status != "failed"]
    review = [result.key for result in results if result.status == "review"]
    keys = [result.key for result in results]
    people, seen = _people(used), _people(keys)
    trials, trials_seen = {key.trial for key in used}, {key.trial for key in keys}
    n_people, n_trials = len(cohort.participants), len(cohort.trials)
    n_scans = len(results) + len(cohort.visits_without_images)
    return {
        "trials": {
            # Without a list of what was not obtained it is unknown how many were sought.
            "sought": n_trials + len(cohort.not_obtained) if cohort.not_obtained else None,
            "obtained": n_trials,
            "with_images": len(trials_seen),
            "segmented": len(trials),
            "review": len({key.trial for key in review}),
            "failed": len(trials_seen - trials),
            "analysed": len(trials),
            "excluded": n_trials - len(trials),
        },
        "participants": {
            "sought": _people_sought(cohort),
            "obtained": n_people,
            "with_images": len(seen),
            "segmented": len(people),
            "review": len(_people(review)),
            "failed": len(seen - people),
            "analysed": len(people),
            "excluded": n_people - len(people),
            # Erased from the output, so in none of the other counts.
            **({"withdrawn": cohort.withdrawn} if cohort.withdrawn else {}),
        },
        "scans": {
            "sought": None,
            "obtained": n_scans,
            "with_images": len(results),
            "segmented": len(used),
            "review": statuses["review"],
            "failed": statuses["failed"],
            "analysed": len(used),
            "excluded": n_scans - len(used),
        },
    }


def _people(keys: Iterable[ScanKey]) -> set[Person]:
    return {(key.trial, key.participant) for key in keys}


def _people_sought(cohort: Cohort) -> int | None:
    counts = [trial.n_sought for trial in cohort.trials]
    counts += [trial.n_participants for trial in cohort.not_obtained]
    known = [count for count in counts if count is not None]
    return sum(known) if known and len(known) == len(counts) else None


def _scan_exclusion(result: ScanResult) -> Exclusion:
    reasons = [flag for flag in result.flags if flag.level == "reject"]
    return Exclusion(
        stage="scan",
        trial=result.key.trial,
        participant_id=result.key.participant,
        visit=result.key.visit,
        code=reasons[0].code if reasons else "scan-failed",
        sentence=reasons[0].sentence if reasons else "The scan could not be measured.",
    )


def _why_not(
    failed: int, reason: str | None, days: tuple[float, float], *, visit: bool
) -> tuple[str, str]:
    """Code and sentence of a participant without a usable scan: the first reason that holds.

    A scan that was made and failed comes before any reason for having none; a reason that the
    trial states comes before one inferred from a day. A NaN day is unknown.
    """
    death, withdrawal = days
    if failed:
        scans = "The one scan" if failed == 1 else f"Each of the {failed} scans"
        return "scan-failed", f"{scans} failed."
    if reason:
        return "reason-no-scan", f"No scan: {reason}"
    if death == death:  # noqa: PLR0124 - NaN is the one value that differs from itself
        return "died-before-scan", f"No scan; died on day {death:g}."
    if withdrawal == withdrawal:  # noqa: PLR0124 - as above
        return "withdrawn", f"No scan; withdrew on day {withdrawal:g}."
    if visit:
        return "no-images", "The scans table has a visit, but no images."
    return "no-scan", "The roster has the participant, the scans have no visit; no reason is given."
