"""The summary of a site: sums by trial and arm, nothing of one participant (``pooling.md`` 7.6).

The file contains counts, means and centred cross-products of the columns that the models need, the
choices they were made with, and what was refused. It has no minimum, maximum or row. Thin cells are
refused (`checked_summary`), and so is what the ledger of the site forbids (``privacy/ledger.py``).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, make_dataclass, replace
from typing import Any

import numpy as np

from ...errors import EstimationError, InputError, Problem
from ...files import canonical_json, sha256_bytes
from ...privacy.ledger import differ_by_few
from ...records import CohortTable
from ...statistics.mixed.sufficient_statistics import TrialSummary, merge_summaries
from ...validation import STRICT, validate
from ..endpoint.columns import covariate_numbers
from ..first_stage.arm_sums import OUTCOME, ArmSums
from ..first_stage.first_stage import FirstStage
from ..options import MODEL_FIELDS, PoolingOptions
from ..subgroups.modifiers import LEAST_IN_CELL, ModifierSums, band_labels, ordered_levels
from ..subgroups.rows import modifiers_of

FORMAT = 1
KIND = "cardiometa site summary"
_LEAST_IN_TRIAL = 20
_PARTICIPANTS_PER_COLUMN = 10

Sets = dict[tuple[str, str, str], frozenset[object]]

# The choices that decide what the sums are of: every site must have made the same.
_KINDS: dict[str, Any] = {
    **dict.fromkeys(("followup_visit", "baseline_column"), str | None),
    **dict.fromkeys(("followup_day", "window"), float | None),
    **dict.fromkeys(("adjust", "by"), list[str]),
    "age_bands": list[float],
}
_Choices: Any = make_dataclass(
    "_Choices",
    [(name, _KINDS.get(name, str)) for name in MODEL_FIELDS],
    namespace={"__pydantic_config__": STRICT},
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteSummary:
    """One site's sums. ``imputed`` names trials with a value replaced by the trial's mean."""

    model: Mapping[str, Any]
    covariates: Mapping[str, str]
    trials: tuple[ArmSums, ...]
    modifiers: tuple[ModifierSums, ...]
    imputed: tuple[str, ...]
    refused: tuple[str, ...]
    conventions: Mapping[str, tuple[str, ...]]
    min_cell: int
    name: str = ""

    @property
    def model_sha256(self) -> str:
        """The hash that every site of one analysis shares."""
        return sha256_bytes(canonical_json([self.model, self.covariates]).encode())


def model_of(options: PoolingOptions) -> dict[str, Any]:
    """The choices that every site must share, as plain values."""
    values = {name: getattr(options, name) for name in MODEL_FIELDS}
    return {k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}


def options_of(model: Mapping[str, Any], options: PoolingOptions) -> PoolingOptions:
    """The options of pooling with the sites' choices in them."""
    values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in model.items()}
    return replace(options, **values)


# ------------------------------------------------------------------ to and from a document


def site_document(site: SiteSummary) -> dict[str, Any]:
    """The site's file as plain values, with a hash of them: a sum changed on the way is seen."""
    document = {
        "kind": KIND,
        "format": FORMAT,
        "model": site.model,
        "model_sha256": site.model_sha256,
        "covariates": site.covariates,
        "min_cell": site.min_cell,
        "conventions": site.conventions,
        "refused": site.refused,
        "imputed": site.imputed,
        "trials": [_sums_document(sums) for sums in site.trials],
        "modifiers": [
            {
                "name": one.name,
                "arm": one.arm,
                "control": one.control,
                "numeric": one.numeric,
                "banded": one.banded,
                "counts": [[*key, count] for key, count in sorted(one.counts.items())],
                "trials": [_sums_document(sums) for sums in one.sums],
            }
            for one in site.modifiers
        ],
    }
    return {**document, "content_sha256": _content_sha256(document)}


_CONTENT = (
    *("kind", "format", "model", "model_sha256", "covariates", "min_cell", "conventions"),
    *("refused", "imputed", "trials", "modifiers"),
)


def _content_sha256(document: Mapping[str, Any]) -> str:
    return sha256_bytes(canonical_json([document[name] for name in _CONTENT]).encode())


def _sums_document(sums: ArmSums) -> dict[str, Any]:
    return {
        "trial": sums.trial,
        "control": sums.control,
        "nuisance": sums.nuisance,
        "columns": sums.columns,
        "arms": {
            arm: {"n": s.n, "means": s.means, "cross_products": s.cross_products}
            for arm, s in sums.arms.items()
        },
    }


def read_site(document: Any, name: str) -> SiteSummary:
    """A site's file back as sums; InputError where it is not one, is damaged, or is impossible."""
    if not isinstance(document, Mapping) or document.get("kind") != KIND:
        raise InputError(
            f"{name} is not a summary of a site.",
            hint="Make one with `cardiometa summarise TABLE --outcome … --out site.json`.",
        )
    if document.get("format") != FORMAT:
        raise InputError(
            f"{name} has format {document.get('format')}; this version reads {FORMAT}.",
            hint="Make it again with the version that pools.",
        )
    modifiers = []
    try:
        for item in document["modifiers"]:
            counts = {(str(t), str(v), str(a)): int(n) for t, v, a, n in item["counts"]}
            levels = dict.fromkeys(level for _, level, _ in counts)
            modifiers.append(
                ModifierSums(
                    name=str(item["name"]),
                    arm=str(item["arm"]),
                    control=str(item["control"]),
                    levels=() if item["numeric"] else tuple(levels),
                    sums=tuple(_read_sums(part) for part in item["trials"]),
                    counts=counts,
                    left_out=(),
                    banded=bool(item["banded"]),
                )
            )
        site = SiteSummary(
            model=dict(document["model"]),
            covariates=dict(document["covariates"]),
            trials=tuple(_read_sums(item) for item in document["trials"]),
            modifiers=tuple(modifiers),
            imputed=tuple(map(str, document["imputed"])),
            refused=tuple(map(str, document["refused"])),
            conventions={k: tuple(v) for k, v in document["conventions"].items()},
            min_cell=int(document["min_cell"]),
            name=name,
        )
        found = (site.model_sha256, _content_sha256(document))
        intact = found == (document["model_sha256"], document["content_sha256"])
    except (KeyError, TypeError, ValueError, AttributeError, StopIteration) as error:
        raise InputError(f"{name} is damaged ({type(error).__name__}).") from error
    if not intact:
        raise InputError(
            f"{name} is damaged: its content does not have the hash it states.",
            hint="Get the file again from the site; a changed sum would change the effect.",
        )
    validate(_Choices, site.model, f"{name}, model")
    options_of(site.model, PoolingOptions())
    return site


def _read_sums(item: Mapping[str, Any]) -> ArmSums:
    columns = tuple(map(str, item["columns"]))
    arms = {}
    for arm, part in item["arms"].items():
        means = np.array(part["means"], dtype=float)
        products = np.array(part["cross_products"], dtype=float)
        p = len(columns)
        if means.shape != (p,) or products.shape != (p, p) or int(part["n"]) < 1:
            raise ValueError("shapes")
        scale = np.sqrt(np.abs(np.diag(products)).max(initial=0.0)) + 1e-300
        if not (np.isfinite(means).all() and np.isfinite(products).all()):
            raise ValueError("not finite")
        lowest = float(np.linalg.eigvalsh(products / scale**2).min()) if p else 0.0
        if not np.allclose(products, products.T, rtol=1e-9) or lowest < -1e-9:
            raise ValueError("not a matrix of sums")
        arms[str(arm)] = TrialSummary(
            trial=str(item["trial"]),
            n=int(part["n"]),
            columns=columns,
            means=means,
            cross_products=products,
        )
    order = sorted(arms, key=lambda arm: (arm != item["control"], arm))
    if not order or len(set(columns)) < len(columns) or OUTCOME not in columns:
        raise ValueError("arms and columns")
    if not {*map(str, item["nuisance"])} <= set(columns):
        raise ValueError("a column that has no sums")
    return ArmSums(
        trial=str(item["trial"]),
        control=str(item["control"]),
        nuisance=tuple(map(str, item["nuisance"])),
        arms={arm: arms[arm] for arm in order},
    )


# ------------------------------------------------------------------ several sites


def join_sites(sites: Sequence[SiteSummary]) -> SiteSummary:
    """All sites as one; InputError lists where they made other choices or share a trial badly."""
    first, problems = sites[0], []
    for site in sites[1:]:
        if site.model_sha256 != first.model_sha256:
            names = [n for n in MODEL_FIELDS if first.model[n] != site.model[n]]
            names += [n for n, x in first.covariates.items() if site.covariates.get(n) != x]
            problems.append(
                Problem(
                    where=site.name,
                    what=f"other choices than {first.name}: {', '.join(names)}",
                    why="Sums of different models cannot be pooled.",
                    fix="Run summarise with the same --config plan at every site.",
                )
            )
    problems += _shared_trials(sites)
    if problems:
        raise InputError("The sites' files do not fit together.", problems=problems)
    joined: dict[tuple[str, str, bool], list[ModifierSums]] = {}
    for one in (one for site in sites for one in site.modifiers):
        joined.setdefault((one.name, one.arm, one.banded), []).append(one)
    modifiers = []
    for parts in joined.values():
        counts: Counter[tuple[str, str, str]] = Counter()
        for part in parts:
            counts.update(part.counts)
        met = Counter(level for _, level in {(t, v) for t, v, _ in counts if v})
        order = band_labels(tuple(first.model["age_bands"])) if parts[0].banded else None
        levels = ordered_levels(parts[0].name, met, order) if met else ()
        sums = _merged([one for part in parts for one in part.sums])
        modifiers.append(replace(parts[0], levels=levels, sums=sums, counts=dict(counts)))
    return replace(
        first,
        trials=_merged([sums for site in sites for sums in site.trials]),
        modifiers=tuple(modifiers),
        imputed=tuple(name for site in sites for name in site.imputed),
        refused=tuple(text for site in sites for text in site.refused),
        conventions={
            key: tuple(sorted({v for site in sites for v in site.conventions.get(key, ())}))
            for key in sorted({key for site in sites for key in site.conventions})
        },
    )


def _shared_trials(sites: Sequence[SiteSummary]) -> list[Problem]:
    """A trial at two sites merges exactly unless a site filled in its own mean."""
    met = Counter(sums.trial for site in sites for sums in site.trials)
    found = []
    for site in sites:
        for sums in site.trials:
            if met[sums.trial] < 2:
                continue
            other = next(s for o in sites for s in o.trials if s.trial == sums.trial)
            if sums.columns != other.columns:
                found.append((site, sums, "its columns differ from those of another site"))
            elif sums.trial in site.imputed:
                found.append((site, sums, "missing values were replaced by this site's own mean"))
    return [
        Problem(
            where=f"{site.name}, trial {sums.trial}",
            what=what,
            why="Parts of one trial must be summed alike.",
            fix="Use --missing-baseline complete and the same covariates at its sites.",
        )
        for site, sums, what in found
    ]


def _merged(every: Sequence[ArmSums]) -> tuple[ArmSums, ...]:
    joined: dict[str, ArmSums] = {}
    for sums in every:
        before = joined.setdefault(sums.trial, sums)
        if before is not sums:
            arms = dict(before.arms)
            for arm, part in sums.arms.items():
                arms[arm] = merge_summaries(arms[arm], part) if arm in arms else part
            joined[sums.trial] = replace(before, arms=arms)
    return tuple(joined[name] for name in sorted(joined))


# ------------------------------------------------------------------ what may leave the site


def checked_summary(
    stage: FirstStage, table: CohortTable, options: PoolingOptions
) -> tuple[SiteSummary, Sets]:
    """The sums of every cell that may leave, and the participants behind each of its parts.

    The sets are keyed by (analysis, trial, arm); the members are row labels of ``stage.people``.
    Raises EstimationError where no cell may leave.
    """
    refused: list[str] = []
    least = max(options.min_cell, LEAST_IN_CELL)
    trials, sets = _trials(stage, options, refused)
    if not trials:
        raise EstimationError(
            "No trial may be summarised: " + " ".join(refused),
            hint="Each needs two arms of at least --min-cell participants, 20 participants in all "
            "and ten per column of the model.",
        )
    kept = {sums.trial for sums in trials}
    analysed = [trial for trial in stage.trials if trial.trial in kept]
    arms = sorted({arm for sums in trials for arm in sums.active}) if options.by else []
    modifiers = [
        _modifier(one, sets, options.min_cell, refused)
        for arm in arms
        for one in modifiers_of(analysed, stage.people, arm, options, least=least)
    ]
    names = dict.fromkeys((*stage.endpoint.covariates, *options.by_columns))
    numbers = {n: covariate_numbers(stage.people[f"covariate {n}"]) for n in names}
    site = SiteSummary(
        model=model_of(options),
        covariates={n: "levels" if x is None else "number" for n, x in numbers.items()},
        trials=tuple(trials),
        modifiers=tuple(one for one in modifiers if one.sums),
        imputed=tuple(trial.trial for trial in analysed if trial.imputed),
        refused=tuple(refused),
        conventions=table.conventions,
        min_cell=options.min_cell,
    )
    return site, sets


def _trials(
    stage: FirstStage, options: PoolingOptions, refused: list[str]
) -> tuple[list[ArmSums], Sets]:
    sets: Sets = {}
    found = []
    rows = {trial.trial: trial.rows for trial in stage.trials}
    for sums in stage.sums:
        thin = [arm for arm, part in sums.arms.items() if part.n < options.min_cell]
        arms = {arm: part for arm, part in sums.arms.items() if arm not in thin}
        refused += [
            f"trial {sums.trial}: fewer than {options.min_cell} people in {a}." for a in thin
        ]
        total = sum(part.n for part in arms.values())
        if sums.control not in arms or len(arms) < 2:
            refused.append(f"trial {sums.trial}: no two arms are left.")
        elif total < _LEAST_IN_TRIAL:
            refused.append(f"trial {sums.trial}: fewer than {_LEAST_IN_TRIAL} people.")
        elif len(sums.columns) * _PARTICIPANTS_PER_COLUMN > total:
            refused.append(f"trial {sums.trial}: fewer than ten people per column of the model.")
        else:
            found.append(replace(sums, arms=arms))
            arm_of = rows[sums.trial]["arm"]
            for arm in arms:
                sets["main", sums.trial, arm] = frozenset(arm_of.index[arm_of == arm])
    return found, sets


def _modifier(one: ModifierSums, sets: Sets, min_cell: int, refused: list[str]) -> ModifierSums:
    """The modifier with the trials that may leave; their sets of people are added to ``sets``."""
    label = f"{one.name}{' in bands' if one.banded else ''}"
    kept = []
    refused += [
        f"trial {trial}: {label} {level}: fewer than {min_cell} people in an arm."
        for trial, level in one.left_out
    ]
    for sums in one.sums:
        own: Sets = {(label, sums.trial, arm): one.members[sums.trial, arm] for arm in sums.arms}
        total = sum(part.n for part in sums.arms.values())
        if len(sums.columns) * _PARTICIPANTS_PER_COLUMN > total:
            refused.append(f"trial {sums.trial}: {label}: fewer than ten people per column.")
        elif any(
            differ_by_few(members, earlier, min_cell)
            for (_, trial, arm), members in own.items()
            for (_, at, of), earlier in sets.items()
            if (trial, arm) == (at, of)
        ):
            refused.append(
                f"trial {sums.trial}: {label}: fewer than {min_cell} people without a usable value "
                "would be known by subtraction."
            )
        else:
            sets.update(own)
            kept.append(sums)
    names = {sums.trial for sums in kept}
    counts = {key: n for key, n in one.counts.items() if key[0] in names}
    return replace(one, sums=tuple(kept), counts=counts)
