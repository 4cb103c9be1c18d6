"""Fit the error of each measure and write it into a model's card: ``python fit_error.py --help``.

Reads folders with ``segmented/`` (`cardiometa segment`) and ``agreement/`` (`cardiometa evaluate
--against labels`) of hearts that the network was not trained on: patients held out, or the folds of
``cross_validate.py``. For each measure the coefficients of `measurement.error` are those with the
highest Gaussian likelihood of the errors, times a prior that keeps each near (SD of its logarithm
0.3, of those tried the best in hearts left out) what it would be if the terms were right by
themselves. The scale is split conformal: the
⌈0.95 (n + 1)⌉-th smallest of the hearts' |error| / SD, each by coefficients fitted without that
tenth of the hearts; below 60 hearts all measures of a ventricle have one scale, since the extreme
of so few says little. Coverage is estimated by doing all of that without each tenth. The factor for
other makers of scanners comes from hearts of one of them. Weights and their digest do not change.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from describe_model import read, write_model
from scipy import optimize, stats

from cardiometa.flags import limit_of
from cardiometa.measurement.error import standard_deviations, wall_deviations
from cardiometa.segmentation.model import (
    ERROR_KIND,
    ERROR_MEASURES,
    ERROR_TERMS,
    PROPAGATED_MEASURES,
    load_model,
    parse_error,
)

PARTS = 10
FEWEST_FOR_OWN_SCALE = 60
PRIOR_SD = 0.3
NORMAL_95 = 1.96
EF = "lv_ef_percent"
Floats = np.ndarray


@dataclass(frozen=True)
class Heart:
    """Errors (measure minus reader's value) and terms by measure of one heart."""

    patient: str
    group: str
    status: str
    errors: Mapping[str, float]
    terms: Mapping[str, Mapping[str, float]]
    measures: Mapping[str, float | None]


def hearts_of(folders: Iterable[Path], groups: Mapping[str, str]) -> list[Heart]:
    """The hearts of outputs that have been compared with labels, by group and patient."""
    hearts = []
    for folder in folders:
        reference: dict[tuple[str, ...], dict[str, float]] = {}
        for row in read(folder / "agreement" / "pairs.csv"):
            key = (row["trial"], row["participant_id"], row["visit"])
            reference.setdefault(key, {})[row["measure"]] = float(row["reference"])
        for key, values in reference.items():
            path = folder.joinpath("segmented", "scans", *key, "result.json")
            record = json.loads(path.read_text(encoding="utf-8"))
            terms = record["details"]["error_terms"]
            # Of the whole stack, also where a reader drew some slices alone.
            measures = record["measures"]
            hearts.append(
                Heart(
                    patient=key[1],
                    group=groups.get(key[1], ""),
                    status=record["status"],
                    errors={
                        n: measures[n] - v
                        for n, v in values.items()
                        if n in terms or n in PROPAGATED_MEASURES
                    },
                    terms=terms,
                    measures=measures,
                )
            )
    return sorted(hearts, key=lambda heart: (heart.group, heart.patient))


@dataclass(frozen=True)
class Sample:
    """One measure of some hearts: errors ``[n]``, terms ``[n, 5]``, part of each heart ``[n]``."""

    errors: Floats
    terms: Floats
    parts: Floats

    @classmethod
    def of(cls, hearts: Sequence[Heart], measure: str) -> Sample:
        """Of the hearts that have the measure; parts go round them in order of their group."""
        own = [(i, heart) for i, heart in enumerate(hearts) if measure in heart.errors]
        return cls(
            errors=np.array([heart.errors[measure] for _, heart in own]),
            terms=np.array([[h.terms[measure][t] for t in ERROR_TERMS] for _, h in own]),
            parts=np.array([i % PARTS for i, _ in own]),
        )

    def where(self, keep: Floats) -> Sample:
        """The hearts that a mask keeps."""
        return Sample(self.errors[keep], self.terms[keep], self.parts[keep])


def fitted(sample: Sample) -> Floats:
    """Coefficients ``[5]`` of highest likelihood and prior."""
    squares, errors2 = np.square(sample.terms), np.square(sample.errors)
    spread = math.sqrt(errors2.mean())
    size = math.sqrt((errors2 / np.maximum(squares[:, 1], 1e-12)).mean())
    centre = np.log([0.5 * spread, 0.5 * size, 1.0, 1.0, 1.0])

    def loss(logs: Floats) -> tuple[float, Floats]:
        parts = squares * np.exp(2 * logs)
        variance = parts.sum(axis=1)
        ratio = errors2 / variance
        slope = 2 * parts / variance[:, None] * (1 - ratio)[:, None]
        away = (logs - centre) / PRIOR_SD
        value = (np.log(variance) + ratio).sum() / 2 + np.square(away).sum() / 2
        return float(value), slope.sum(axis=0) / 2 + away / PRIOR_SD

    found = optimize.minimize(loss, centre, jac=True, method="L-BFGS-B")
    return np.exp(found.x)


def deviations(sample: Sample, coefficients: Floats) -> Floats:
    """SD ``[n]`` before the scale."""
    return np.sqrt(np.square(sample.terms) @ np.square(coefficients))


@dataclass(frozen=True)
class Fit:
    """Coefficients ``[5]`` and scale by measure."""

    coefficients: Mapping[str, Floats]
    scales: Mapping[str, float]

    def deviations(self, measure: str, sample: Sample) -> Floats:
        """SD ``[n]`` of the hearts of a sample."""
        return deviations(sample, self.coefficients[measure]) * self.scales[measure]


def scores(sample: Sample) -> Floats:
    """|error| / SD of each heart, by coefficients fitted without its part."""
    result = np.empty(len(sample.errors))
    for part in np.unique(sample.parts):
        own = sample.parts == part
        there = sample.where(own)
        result[own] = abs(there.errors) / deviations(there, fitted(sample.where(~own)))
    return result


def fit(samples: Mapping[str, Sample]) -> Fit:
    """Coefficients and conformal scales of all measures."""
    by_measure = {measure: scores(sample) for measure, sample in samples.items()}
    scales = {}
    for measure, own in by_measure.items():
        few = len(own) < FEWEST_FOR_OWN_SCALE
        used = [s for m, s in by_measure.items() if m == measure or (few and m[:2] == measure[:2])]
        scales[measure] = conformal(np.concatenate(used))
    return Fit({measure: fitted(sample) for measure, sample in samples.items()}, scales)


def conformal(ratios: Iterable[float]) -> float:
    """The scale that makes ± 1.96 SD cover, of |error| / SD of hearts."""
    ordered = np.sort(list(ratios))
    rank = min(math.ceil(0.95 * (len(ordered) + 1)), len(ordered))
    return float(ordered[rank - 1]) / NORMAL_95


def propagated_scales(hearts: Sequence[Heart], block: Mapping[str, Any]) -> dict[str, float]:
    """Scales of the SDs that follow from others' by the errors of ``block``; empty without them."""
    model = parse_error(block)
    ratios: dict[str, list[float]] = {}
    for heart in hearts:
        sds = standard_deviations(heart.terms, model, model.vendors[0])
        for name, sd in wall_deviations({**heart.measures, **sds}, model).items():
            if (measure := name.removesuffix("_sd")) in heart.errors:
                ratios.setdefault(measure, []).append(abs(heart.errors[measure]) / sd)
    if set(ratios) < set(PROPAGATED_MEASURES):
        return {}
    return {name: round(conformal(own), 4) for name, own in ratios.items()}


def out_of_part(samples: Mapping[str, Sample]) -> dict[str, Floats]:
    """SD ``[n]`` of each measure, everything estimated without the heart's part."""
    result = {measure: np.empty(len(sample.errors)) for measure, sample in samples.items()}
    for part in range(PARTS):
        without = fit({m: s.where(s.parts != part) for m, s in samples.items()})
        for measure, sample in samples.items():
            own = sample.parts == part
            result[measure][own] = without.deviations(measure, sample.where(own))
    return result


def rms(values: Floats) -> float:
    """Root mean square."""
    return math.sqrt(float(np.square(values).mean()))


def elsewhere_factor(
    home: Sequence[Floats], samples: Mapping[str, Sample], found: Fit, hearts: int
) -> tuple[float, float]:
    """The factor of the SD on makers without hearts, and the ratio that it comes from.

    The ratio compares the root mean square of error / SD of another maker's hearts with that
    ``home`` (of a tenth left out); where it is below 1 it counts as 1. So few hearts cannot show
    that it is right: it is multiplied by t(0.975; number of hearts) / 1.96.
    """
    there = [sample.errors / found.deviations(m, sample) for m, sample in samples.items()]
    ratio = rms(np.concatenate(there)) / rms(np.concatenate(home))
    return max(ratio, 1.0) * float(stats.t.ppf(0.975, hearts)) / NORMAL_95, ratio


def coverage_table(samples: Mapping[str, Sample], sds: Mapping[str, Floats]) -> dict[str, Any]:
    """Coverage and width of the intervals by measure."""
    rows = []
    for measure, sample in samples.items():
        wide = NORMAL_95 * sds[measure]
        inside = int((abs(sample.errors) <= wide).sum())
        rows.append(
            [
                measure,
                str(len(wide)),
                f"{inside / len(wide):.2f}",
                f"{wide.mean():.1f} ({wide.min():.1f} to {wide.max():.1f})",
                f"{rms(sample.errors):.1f}",
            ]
        )
    columns = ["measure", "hearts", "coverage", "half width, mean (range)", "error, RMS"]
    how = "95 % intervals of hearts of a tenth that was left out of fit and scale."
    return {"title": "Intervals", "how": how, "columns": columns, "rows": rows}


def diagnosis_table(
    hearts: Sequence[Heart], samples: Mapping[str, Sample], sds: Mapping[str, Floats]
) -> dict[str, Any]:
    """Coverage by diagnosis: of LV EF, and of all measures together."""
    rows = []
    for group in sorted({heart.group for heart in hearts}):
        inside: dict[str, list[bool]] = {}
        for measure, sample in samples.items():
            own = [heart.group == group for heart in hearts if measure in heart.errors]
            inside[measure] = list((abs(sample.errors) <= NORMAL_95 * sds[measure])[own])
        every = [one for many in inside.values() for one in many]
        count = sum(heart.group == group for heart in hearts)
        rows.append([group, str(count), *(f"{np.mean(v):.2f}" for v in (inside[EF], every))])
    columns = ["diagnosis", "hearts", "coverage, LV EF", "coverage, all measures"]
    how = "As above; of so few hearts a group these are rough."
    return {"title": "Intervals by diagnosis", "how": how, "columns": columns, "rows": rows}


def section(home: Sequence[Heart], other: Sequence[Heart], vendors: Sequence[str]) -> Any:
    """The card's section ``error``."""
    samples = {measure: Sample.of(home, measure) for measure in ERROR_MEASURES}
    found, sds = fit(samples), out_of_part(samples)
    standard = {m: sample.errors / sds[m] for m, sample in samples.items()}
    there = {m: Sample.of(other, m) for m in ERROR_MEASURES if any(m in h.errors for h in other)}
    factor, ratio = elsewhere_factor([standard[m] for m in there], there, found, len(other))
    inside = np.concatenate([abs(z) <= NORMAL_95 for z in standard.values()])
    widths = NORMAL_95 * sds[EF]
    off = abs(samples[EF].errors) > 10
    # A scan whose interval is wider than that goes to review (`ef-uncertain`).
    statuses = [heart.status for heart in home if EF in heart.errors]
    sure = widths <= limit_of("ef-uncertain")
    ok = int((off & sure & (np.array(statuses) == "ok")).sum())
    far = int(off.sum())
    covered = float((abs(standard[EF]) <= NORMAL_95).mean())
    evidence = {
        "hearts": len(home),
        "coverage_all": round(float(inside.mean()), 3),
        "coverage_lv_ef": round(covered, 3),
        "half_width_lv_ef": round(float(widths.mean()), 2),
        "ef_error_over_10": far,
        "ef_error_over_10_ok": ok,
        "hearts_elsewhere": len(other),
        "ratio_elsewhere": round(ratio, 3),
    }
    own = "each measure" if len(home) >= FEWEST_FOR_OWN_SCALE else "the measures of each ventricle"
    sentence = (
        f"Each volume, mass and EF has an SD of the model's error (columns `<measure>_sd`); ± 1.96 "
        f"SD is a 95 % interval. Fitted on {len(home)} hearts, each read by a network not trained "
        f"on it ({', '.join(vendors)}), and scaled for {own}; of hearts left out of the fit the "
        f"intervals contain the expert's value in {inside.mean():.0%} (LV EF {covered:.0%}, ± "
        f"{widths.mean():.1f} points on average). EF is more than 10 points off in {far} of "
        f"them, {ok} of these with an interval of at most ± 10 points and no other reason for "
        f"review. Scans of other or unknown makers have {factor:.2f} times the SD: "
        f"{len(other)} hearts of another one have {ratio:.2f} times the error per SD in LV "
        "measures (less than 1 counts as 1), times t(0.975) / 1.96 for their small number. For the "
        "RV there are no such hearts; it has the factor of the LV."
    )
    return {
        "kind": ERROR_KIND,
        "measures": {
            measure: {
                **dict(zip(ERROR_TERMS, (round(float(c), 4) for c in own_fit), strict=True)),
                "scale": round(found.scales[measure], 4),
            }
            for measure, own_fit in found.coefficients.items()
        },
        "vendors": list(vendors),
        "elsewhere": {"lv": round(factor, 3), "rv": round(factor, 3)},
        "sentence": sentence,
        "evidence": evidence,
        "tables": [coverage_table(samples, sds), diagnosis_table(home, samples, sds)],
    }


def main() -> None:
    """Read, fit, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("hearts", type=Path, nargs="+", help="folders: segmented/, agreement/")
    parser.add_argument("--groups", type=Path, required=True, help="CSV: participant_id, group")
    parser.add_argument("--vendors", default="Siemens", help="makers of their scanners")
    parser.add_argument(
        "--other-vendor", type=Path, required=True, help="segmented/, agreement/ of another maker"
    )
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    groups = {row["participant_id"]: row["group"] for row in read(arguments.groups)}
    hearts = hearts_of(arguments.hearts, groups)
    block = section(
        hearts,
        hearts_of([arguments.other_vendor], groups),
        arguments.vendors.split(","),
    )
    if scales := propagated_scales(hearts, block):
        block["propagated"] = scales
    parse_error(block)
    shown = {name: block.get(name) for name in ("evidence", "propagated", "tables")}
    print(json.dumps(shown, indent=1))
    print(block["sentence"])
    model = load_model(arguments.model)
    write_model(arguments.out, model, {**model.card.document, "error": block})


if __name__ == "__main__":
    main()
