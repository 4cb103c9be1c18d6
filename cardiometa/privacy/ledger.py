"""The ledger of a site: which participants are behind the sums that left it.

Sums of two sets of participants can be subtracted: whoever has both knows the sums of those who are
in one alone. So all sets that leave the site, today's and those in its ledger, must not give a sum
over fewer than ``min_cell`` participants by adding and subtracting (``pooling.md`` section 9). The
file has keyed hashes of ids and never leaves the site.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Hashable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import InputError, Problem
from ..files import read_json
from .suppression import is_disclosive

LEDGER_NAME = "cardiometa-ledger.json"
_KIND = "cardiometa ledger; it stays at the site"
# (analysis, trial, arm) to labels of participants.
Sets = Mapping[tuple[str, str, str], frozenset[Any]]
Entries = Mapping[str, Sequence[str]]


def read_ledger(path: Path) -> dict[str, Any]:
    """The ledger, or a new one with its own key; InputError where it is damaged."""
    if not path.exists():
        return {"kind": _KIND, "key": secrets.token_hex(32), "summaries": []}
    found = read_json(path)
    try:
        sound = found["kind"] == _KIND and len(bytes.fromhex(found["key"])) == 32
        sets = [ids for item in found["summaries"] for ids in item["sets"].values()]
        sound = sound and all(isinstance(ids, list) for ids in sets)
        sound = sound and all(isinstance(one, str) for ids in sets for one in ids)
    except (AttributeError, KeyError, TypeError, ValueError):
        sound = False
    if not sound:
        raise InputError(
            f"{path.name} is not a ledger, or is damaged.",
            hint="Restore it: without it what earlier summaries disclosed is unknown. Or name "
            "another file with --ledger if no summary has left this site.",
        )
    return dict(found)


def ledger_entries(
    sets: Sets, identities: Iterable[tuple[Hashable, str, str]], key: bytes
) -> dict[str, list[str]]:
    """The sets that leave, ``trial / arm / analysis`` to keyed hashes of participants.

    ``identities``: label, trial and participant_id of each.
    """
    hashes = {
        label: hmac.new(key, f"{trial}\t{participant}".encode(), hashlib.sha256).hexdigest()[:24]
        for label, trial, participant in identities
    }
    return {
        f"{trial}\t{arm}\t{analysis}": sorted(hashes[label] for label in members)
        for (analysis, trial, arm), members in sets.items()
    }


def differ_by_few(first: frozenset[Any], second: frozenset[Any], min_cell: int) -> bool:
    """True where some, but fewer than ``min_cell``, are in one of the sets alone."""
    return any(0 < len(part) < min_cell for part in (first - second, second - first))


def check_ledger(entries: Entries, earlier: Iterable[Entries], min_cell: int) -> None:
    """InputError where sets of a trial, earlier ones among them, disclose a few participants.

    Two that differ by a few are named. Several may do what no two can (all less the women less all
    but one of the men): every sum that they give is checked (`is_disclosive`).
    """
    earlier = list(earlier)
    new = {name: frozenset(ids) for name, ids in entries.items()}
    problems = [
        Problem(
            where=f"trial {_trial(name)}",
            what=f"it differs by fewer than {min_cell} people from summary {number} of this site",
            why="Subtracting the two would disclose these few participants.",
        )
        for number, before in enumerate(earlier, start=1)
        for name, ids in before.items()
        for mine, members in new.items()
        if _trial(mine) == _trial(name)
        and not members.isdisjoint(ids)
        and differ_by_few(members, frozenset(ids), min_cell)
    ]
    old = _sets_by_trial(earlier)
    for trial, sets in sorted(_sets_by_trial([*earlier, entries]).items()):
        known = old.get(trial, set())
        if sets != known and is_disclosive(sets, min_cell) and not is_disclosive(known, min_cell):
            what = (
                "together with the earlier summaries it discloses sums over fewer than "
                f"{min_cell} people"
            )
            why = "These participants' sums could be recovered by subtraction."
            problems.append(Problem(where=f"trial {trial}", what=what, why=why))
    if problems:
        raise InputError(
            "This summary must not leave the site.",
            hint="Send the earlier file, or change the analysis by more participants at once.",
            problems=list(dict.fromkeys(problems)),
        )


def _trial(name: str) -> str:
    return name.split("\t", maxsplit=1)[0]


def _sets_by_trial(summaries: Iterable[Entries]) -> dict[str, set[frozenset[str]]]:
    found: dict[str, set[frozenset[str]]] = {}
    for summary in summaries:
        for name, ids in summary.items():
            found.setdefault(_trial(name), set()).add(frozenset(ids))
    return found
