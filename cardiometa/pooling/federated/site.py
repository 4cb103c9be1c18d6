"""What a site sends: sums by trial and arm, nothing of a single person (``pooling.md`` 7.6).

The file holds counts, means and centred cross-products of the columns that the models need, the
choices they were made with, and what was refused. It has no minimum, maximum or row.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ...errors import InputError, Problem
from ...files import canonical_json, sha256_bytes
from ...records import TrialSummary
from ...statistics.mixed.sufficient_statistics import merge_summaries
from ..first_stage.arm_sums import OUTCOME, ArmSums
from ..options import MODEL_FIELDS, PoolingOptions
from ..subgroups.modifiers import ModifierSums, band_labels, ordered_levels

FORMAT = 1
KIND = "cardiometa site summary"
# The choices that decide what the sums are of: every site must have made the same.


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
    try:
        site = SiteSummary(
            model=dict(document["model"]),
            covariates=dict(document["covariates"]),
            trials=tuple(_read_sums(item) for item in document["trials"]),
            modifiers=tuple(_read_modifier(item) for item in document["modifiers"]),
            imputed=tuple(map(str, document["imputed"])),
            refused=tuple(map(str, document["refused"])),
            conventions={k: tuple(v) for k, v in document["conventions"].items()},
            min_cell=int(document["min_cell"]),
            name=name,
        )
        same = (site.model_sha256, _content_sha256(document)) == (
            document["model_sha256"],
            document["content_sha256"],
        )
        whole = set(site.model) == set(MODEL_FIELDS)
        _check_model(site.model)
    except (KeyError, TypeError, ValueError, AttributeError, StopIteration) as error:
        raise InputError(f"{name} is damaged ({type(error).__name__}).") from error
    if not (same and whole):
        raise InputError(
            f"{name} is damaged: what it holds does not have the hash it states.",
            hint="Get the file again from the site; a changed sum would change the effect.",
        )
    return site


_TEXT_FIELDS = ("outcome", "effect", "baseline_visit", "control", "missing_baseline", "status")
_OPTIONAL_TEXTS = ("followup_visit", "baseline_column")
_OPTIONAL_NUMBERS = ("followup_day", "window")


def _check_model(model: Mapping[str, Any]) -> None:
    """Raise TypeError for a choice of another kind than this program writes; UsageError too."""

    def need(names: Sequence[str], kinds: tuple[type, ...]) -> None:
        if not all(isinstance(model[name], kinds) for name in names):
            raise TypeError("a choice")

    need(_TEXT_FIELDS, (str,))
    need(_OPTIONAL_TEXTS, (str, type(None)))
    need(_OPTIONAL_NUMBERS, (int, float, type(None)))
    for name, kinds in (("adjust", (str,)), ("by", (str,)), ("age_bands", (int, float))):
        need((name,), (list,))
        if not all(isinstance(one, kinds) for one in model[name]):
            raise TypeError("a choice")
    options_of(model, PoolingOptions())


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


def _read_modifier(item: Mapping[str, Any]) -> ModifierSums:
    counts = {(str(t), str(v), str(a)): int(n) for t, v, a, n in item["counts"]}
    levels = () if item["numeric"] else tuple(dict.fromkeys(level for _, level, _ in counts))
    return ModifierSums(
        name=str(item["name"]),
        arm=str(item["arm"]),
        control=str(item["control"]),
        levels=levels,
        sums=tuple(_read_sums(part) for part in item["trials"]),
        counts=counts,
        left_out=(),
        unknown=0,
        banded=bool(item["banded"]),
    )


# ------------------------------------------------------------------ several sites


def join_sites(sites: Sequence[SiteSummary]) -> SiteSummary:
    """All sites as one; InputError lists where they made other choices or share a trial badly."""
    first = sites[0]
    problems = [
        Problem(
            where=site.name,
            what=f"other choices than {first.name}: {_differences(first, site)}",
            why="Sums of different models cannot be pooled.",
            fix="Run summarise with the same --config plan at every site.",
        )
        for site in sites[1:]
        if site.model_sha256 != first.model_sha256
    ]
    problems += _shared_trials(sites)
    if problems:
        raise InputError("The sites' files do not fit together.", problems=problems)
    return replace(
        first,
        trials=_merged([sums for site in sites for sums in site.trials]),
        modifiers=_merged_modifiers([one for site in sites for one in site.modifiers], first),
        imputed=tuple(name for site in sites for name in site.imputed),
        refused=tuple(text for site in sites for text in site.refused),
        conventions={
            key: tuple(sorted({v for site in sites for v in site.conventions.get(key, ())}))
            for key in sorted({key for site in sites for key in site.conventions})
        },
    )


def _differences(first: SiteSummary, other: SiteSummary) -> str:
    names = [n for n in MODEL_FIELDS if first.model[n] != other.model[n]]
    names += [n for n in first.covariates if other.covariates.get(n) != first.covariates[n]]
    return ", ".join(names)


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
        if sums.trial not in joined:
            joined[sums.trial] = sums
            continue
        before = joined[sums.trial]
        arms = dict(before.arms)
        for arm, part in sums.arms.items():
            arms[arm] = merge_summaries(arms[arm], part) if arm in arms else part
        joined[sums.trial] = replace(before, arms=arms)
    return tuple(joined[name] for name in sorted(joined))


def _merged_modifiers(every: Sequence[ModifierSums], site: SiteSummary) -> tuple[ModifierSums, ...]:
    joined: dict[tuple[str, str, bool], list[ModifierSums]] = {}
    for one in every:
        joined.setdefault((one.name, one.arm, one.banded), []).append(one)
    found = []
    for parts in joined.values():
        counts: Counter[tuple[str, str, str]] = Counter()
        for part in parts:
            counts.update(part.counts)
        met = Counter(level for _, level in {(t, v) for t, v, _ in counts if v})
        order = band_labels(tuple(site.model["age_bands"])) if parts[0].banded else None
        levels = ordered_levels(parts[0].name, met, order) if met else ()
        sums = [one for part in parts for one in part.sums]
        found.append(replace(parts[0], levels=levels, sums=_merged(sums), counts=dict(counts)))
    return tuple(found)


def counted(site: SiteSummary) -> dict[str, Any]:
    """What a person at the site reads before sending: trials, arms, people, columns."""
    return {
        sums.trial: {
            "arms": {arm: part.n for arm, part in sums.arms.items()},
            "columns": list(sums.columns),
        }
        for sums in site.trials
    }
