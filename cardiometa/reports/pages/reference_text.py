"""What the page of reference ranges says in words: methods, conventions, who was left out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ...records import Table
from ..style import DASH, measure_name, shown_count
from .reference_meta import META, meta_sentences

if TYPE_CHECKING:
    from ...reference.options import ReferenceOptions
    from ...reference.results import Account, ReferenceRanges


_REASONS: Final = {
    "failed": "segmentation failed",
    "very-few-phases": "fewer than 12 phases",
    "review": "for review",
    "healthy-unknown": "not known to be healthy",
    "not-healthy": "not healthy",
    "other-visit": "another scan of the person used",
    "sex-unknown": "sex unknown",
    "age-unknown": "age unknown",
    "age-below-bands": "below the first age band",
    "no-value": "no value",
    "outlier": "outlier",
}
_CONVENTIONS: Final = {
    "papillary": "Papillary muscles",
    "sequence": "Sequence",
    "model_id": "Segmentation model",
    "model_sha256": "Its SHA-256",
    "bsa_formula": "Body surface area",
    "reported_papillary": "Papillary muscles in reported values",
    "vendor": "Vendors",
    "field_strength_t": "Field strength, T",
}


def convention_facts(result: ReferenceRanges) -> tuple[tuple[str, str], ...]:
    """The conventions line: what was measured how, with the mix of scanners."""
    few = result.options.min_cell
    facts = [
        (_CONVENTIONS[name], ", ".join(values))
        for name, values in result.conventions.items()
        if values and name in _CONVENTIONS
    ]
    for name, counts in result.scanners.items():
        parts = [
            f"{value} ({f'<{few}' if count < few else shown_count(count)})"
            for value, count in counts.items()
        ]
        facts.append((_CONVENTIONS[name], ", ".join(parts)))
    unstated = [_CONVENTIONS[n] for n in ("papillary", "sequence") if n not in result.conventions]
    if unstated:
        facts.append(("Not stated in the table", ", ".join(unstated)))
    rule = result.options.healthy_rule
    if result.options.healthy_only:
        facts.append(("Healthy", rule or "as the table's column healthy says"))
    return tuple(facts)


def accounting_table(result: ReferenceRanges) -> Table:
    """Rows of the table in, each reason, rows used: closes for each measure."""
    from ...privacy.suppression import hidden_counts

    few = result.options.min_cell
    codes = [c for c in _REASONS if any(c in a.excluded for a in result.accounts)]
    codes += sorted({c for a in result.accounts for c in a.excluded} - set(codes))
    split = "ethnicity" in result.by

    def row(account: Account) -> tuple[str, ...]:
        counts = [account.excluded.get(code, 0) for code in codes]
        hidden = hidden_counts(counts, account.rows_in - account.analysed, few)
        cells = [
            "0"
            if count == 0
            else f"<{few}"
            if count < few
            else DASH
            if hide
            else shown_count(count)
            for count, hide in zip(counts, hidden, strict=True)
        ]
        unknown = account.ethnicity_unknown
        tail = ["0" if unknown == 0 else f"<{few}" if unknown < few else shown_count(unknown)]
        return (
            measure_name(account.measure),
            shown_count(account.rows_in),
            *cells,
            shown_count(account.analysed),
            *(tail if split else []),
        )

    last = ("of them, ethnicity unknown",) if split else ()
    return Table(
        title="From the rows of the table to the people of the ranges.",
        columns=(
            "Measure",
            "Rows",
            *(_REASONS.get(code, code).capitalize() for code in codes),
            "Analysed",
            *last,
        ),
        rows=tuple(row(account) for account in result.accounts),
        caption=(
            "Rows = reasons + analysed; each row has one reason. "
            + ("People of unknown ethnicity count in All alone. " if split else "")
            + f"<{few}: a few, not told; {DASH}: withheld, since it would tell them."
        ),
    )


def methods_text(result: ReferenceRanges) -> str:
    """The methods paragraph, as it may be copied into a paper."""
    options = result.options
    population = (
        "Participants marked as healthy were used"
        + (f" ({options.healthy_rule})" if options.healthy_rule else "")
        if options.healthy_only
        else "All participants were used, healthy or not"
    )
    by = ", ".join(result.by)
    groups = f"separately by {by}" if by else "for everybody together"
    bands = ""
    if "age" in result.by:
        ages = ", ".join(f"{b:g}" for b in options.age_bands)
        bands = f" Age bands start at {ages} years ([lower, upper) on the exact age)."
    together = " Ethnicity All takes everybody together." if "ethnicity" in result.by else ""
    parts = [f"{population}, {'all scans' if options.repeated else 'one scan'} of a person."]
    if options.repeated:
        parts.append(
            "People may have several scans: every interval of a limit is a percentile bootstrap "
            f"interval from {options.bootstrap} samples of people with all their scans (seed "
            f"{options.seed}), whatever the method's own interval would be. Groups are compared "
            "by the mean of each person's scans."
        )
    if "strata" in result.methods:
        parts.append(
            f"Limits were estimated {groups}.{bands}{together} {_limits_sentence(options)} People "
            "of different trials were pooled without weights; each trial's own limits and the "
            "limits without it are given beside them. Groups with fewer than "
            f"{options.smallest_n} people have no limit. Groups were compared by Harris and Boyd's "
            "z (critical value 3√(n̄/120)), the ratio of SDs (1.5), and Lahti's shares outside the "
            "common limits."
        )
    parts += [
        meta_sentences(result) if method == META else curve_sentences(method, result)
        for method in result.methods
        if method != "strata"
    ]
    parts.append(
        f"Outliers: {_outliers(options)}. Differences of means are by least squares adjusted for "
        "age, within trials (an intercept for each trial, HC3 standard errors) and between trials "
        "(means of the trials) apart."
    )
    return "\n\n".join(parts)


_CURVES: Final = {
    "lms": (
        "LMS curves (Cole and Green): log M and log S are penalised splines of age (20 cubic "
        "B-splines, second differences), L is a number, bending slowly with age where a sex has at "
        "least 1,000 people. Coefficients are by penalised likelihood (Fisher scoring), penalties "
        "by Fellner-Schall's update, the scale adjusted for the location's coefficients as by REML."
    ),
    "gaussian": (
        "Normal curves: the mean and the log SD are penalised splines of age (20 cubic B-splines, "
        "second differences), with penalties by Fellner-Schall's update, the scale adjusted as by "
        "REML."
    ),
    "linear": (
        "Linear curves: a mean linear in age and one SD (REML), for comparison with published "
        "ranges; each ethnicity alone."
    ),
    "quantile": (
        "Quantile regression of each centile on a line or a natural cubic spline of age (two to "
        "six coefficients by the number of people in the tail), each ethnicity with enough people "
        "alone. Centiles that cross are put in order."
    ),
    "fractional-polynomial": (
        "Fractional polynomials (Royston and Wright): mean and SD of age, powers by the closed "
        "test, the SD from absolute residuals, the mean refitted with weights; each ethnicity "
        "alone. The intervals count the choice of the mean's powers: the distance of the other "
        "polynomials by their weight (Buckland)."
    ),
}


def curve_sentences(method: str, result: ReferenceRanges) -> str:
    """How the curves were made, with ethnicity and trials."""
    options, parts = result.options, [_CURVES[method]]
    if "sex" in result.by:
        parts.append("Men and women were fitted apart.")
    if "ethnicity" in result.by:
        parts.append(
            "Everybody's curve is free of ethnicity. "
            + (
                "The ethnicities share one age shape; each has a random effect on location and "
                "scale, so that a thin group is drawn to the others (of two groups each keeps its "
                "own). A group that no trial holds "
                "beside another has no level of its own."
                if method in ("lms", "gaussian")
                else "A group too thin for a curve of its own has everybody's, moved by its own "
                "mean distance within trials, shrunk as a random effect"
                + (
                    "; that curve is of people within a group, and of positive values the distance "
                    "is a ratio, by which an outer centile moves half as the median does and half "
                    "in proportion to itself."
                    if method == "quantile"
                    else "."
                )
            )
        )
    if len(result.trials) > 1:
        parts.append(_trials_sentence(method, options.trial_effect, len(result.trials)))
    parts.append(f"{_intervals(method, options)} Nothing is given outside the observed ages.")
    return " ".join(parts)


def _intervals(method: str, options: ReferenceOptions) -> str:
    ci = f"The {options.ci_level:g}% confidence intervals"
    if method == "quantile":
        return (
            f"{ci} are percentiles of {options.bootstrap} bootstrap samples of people within "
            f"their trials, trials kept as they are (seed {options.seed}); of more than 50,000 "
            "people, the sandwich's of Hendricks and Koenker."
        )
    return f"{ci} are by the delta method."


def _trials_sentence(method: str, wish: str, trials: int) -> str:
    if wish == "none":
        return "Trials were ignored in the curves."
    if method == "quantile" or wish == "fixed" or trials < 5:
        return (
            "Trials entered as fixed effects whose mean over people is 0: the limits are those of "
            "the average of these trials."
        )
    return (
        "Trials entered the location as random effects (groups of fewer than five trials: as fixed "
        "ones). Marginal limits add the variance between trials and hold for a person of a new "
        "trial; conditional limits are those of an average trial."
    )


def _limits_sentence(options: ReferenceOptions) -> str:
    ci = f"{options.ci_level:g}% confidence intervals"
    names = " and ".join(f"{c:g}" for c in options.centiles if c != 50)
    rank = f"with exact equal-tailed binomial rank {ci}"
    sentences = {
        "nonparametric": f"nonparametric, interpolated at rank p(n + 1) (type 6), {rank}",
        "nonparametric-ranks": f"nonparametric at the rounded rank p(n + 1) (EP28-A3c), {rank}",
        "parametric": f"mean ± z·SD; {ci} from SE = s√(1/n + z²/(2n))",
        "prediction": (
            f"mean ± t·SD·√(1 + 1/n), the prediction interval of a new person; {ci} by the delta "
            "method"
        ),
        "log": f"mean ± z·SD of the logarithms, transformed back with their {ci}",
        "boxcox": (
            "mean ± z·SD after the Box-Cox power of the highest profile likelihood in each group, "
            f"transformed back; {ci} by the delta method, the power's own uncertainty included"
        ),
        "robust": (
            f"robust by Horn's biweight method, for about symmetric values, with bootstrap {ci} "
            f"({options.bootstrap} samples of people, seed {options.seed})"
        ),
    }
    if options.limits is not None:
        return f"The limits are centiles {names}, {sentences[options.limits]}."
    return (
        f"The limits are centiles {names}, {sentences['nonparametric']}, in groups of at least 120 "
        f"people; in smaller groups they are {sentences['robust']} (CLSI EP28-A3c)."
    )


def _outliers(options: ReferenceOptions) -> str:
    fences = "Tukey's fences after a power transformation to symmetry"
    return {
        "list": f"values beyond {fences} were counted and kept",
        "tukey": f"values beyond {fences} were left out",
        "none": "not looked for",
    }[options.outliers]
