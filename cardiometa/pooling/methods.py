"""The methods paragraph and the warnings of a pooled analysis."""

from __future__ import annotations

from collections.abc import Sequence

from ..privacy.suppression import few_event_trials
from ..records import CohortTable, SeriousWarning
from ..statistics.event_mixed import NODES
from .endpoint.analysis_set import estimand_sentence, in_two_arms, worse_direction
from .endpoint.columns import each_trial, present
from .first_stage.first_stage import FirstStage
from .options import EVENTS, RATIOS, STANDARDISED, WIN_ODDS, PoolingOptions
from .results import IntegrityRow, Study
from .second_stage.one_stage import RESIDUAL_NAMES

TAU2_NAMES = {
    "reml": "restricted maximum likelihood",
    "ml": "maximum likelihood",
    "dl": "DerSimonian and Laird",
    "pm": "Paule and Mandel",
    "eb": "empirical Bayes (Morris)",
    "he": "Hedges and Olkin",
    "hs": "Hunter and Schmidt",
    "sj": "Sidik and Jonkman",
}
CI_NAMES = {
    "wald": "Wald",
    "hksj": "Hartung-Knapp-Sidik-Jonkman",
    "hksj-truncated": "Hartung-Knapp-Sidik-Jonkman with the variance ratio never below 1",
}
EFFECT_NAMES = {
    "mean-difference": "mean difference",
    "change": "mean difference in change",
    "follow-up": "mean difference at follow-up",
    "odds-ratio": "odds ratio",
    "risk-ratio": "risk ratio",
    "hazard-ratio": "hazard ratio",
    "risk-difference": "risk difference",
    "win-odds": "win odds",
    "standardised-mean-difference": "standardised mean difference",
}
_LEAST_DF = 5  # below it the weight 1 / SE² has no finite variance
_FEW_TRIALS = {
    1: "Only one trial: this is its own result, nothing was pooled, and neither heterogeneity nor "
    "a prediction interval can be given.",
    2: "Only two trials: the between-trial variance is hardly known, HKSJ intervals have one "
    "degree of freedom, and no prediction interval is given.",
    3: "Only three trials: the between-trial variance is poorly known; read the interval of tau² "
    "and all three confidence intervals.",
    4: "Fewer than five trials: the between-trial variance is poorly known.",
}


def methods_of_rows(
    stage: FirstStage, options: PoolingOptions, *, several: bool = True, worst_rank: bool = False
) -> str:
    """What was done, as a paper's methods section says it.

    ``several``: more than one trial gives an effect, so that something was pooled; ``worst_rank``:
    an analysis with deaths as the worst rank is among the results.
    """
    second = second_stage_sentence(options) if several else ""
    estimand = estimand_sentence(options, stage.people, worst_rank=worst_rank)
    if options.effect == WIN_ODDS:
        text = (
            "In each trial every participant of the active arm was compared with every one of the "
            f"control arm on {options.outcome} at {stage.endpoint.followup}, "
            f"{worse_direction(options)} values being worse; the win odds are those of doing "
            "better, ties counting half, with the variance of DeLong et al. (1988). Survivors "
            "without the outcome were left out."
        )
        return _joined(estimand, text, second)
    if options.effect in EVENTS:
        parts = [_event_sentence(stage, options), _missing_sentence(stage, options), second]
        if several and options.effect != "hazard-ratio":
            parts.append(
                "The Mantel-Haenszel common effect, which corrects no cell, is also given; it is "
                "the headline where events are few."
            )
        if several and options.model != "two-stage":
            parts.append(_one_stage_event_sentence(options))
        if options.effect == "hazard-ratio":
            parts.append(
                "Proportional hazards were tested by scaled Schoenfeld residuals over 1 - "
                "Kaplan-Meier."
            )
        if options.rmst is not None:
            parts.append(
                f"Restricted mean times up to {options.rmst:g} are the areas under each trial's "
                "Kaplan-Meier curves, unadjusted, with Greenwood's variance; differences were "
                "pooled as other effects."
            )
    else:
        parts = [_model_sentence(stage, options), _missing_sentence(stage, options)]
        if options.cluster:
            parts.append(
                "Cluster-randomised trials were fitted by a mixed model with a random intercept of "
                f"{options.cluster} (REML, Kenward & Roger 1997) in place of least squares."
            )
        parts.append(estimand)
        parts += [] if options.model == "one-stage" else [second]
        if several and options.model != "two-stage" and options.cluster is None:
            parts.append(one_stage_sentence(options))
    parts += [interaction_sentence(options, several=several)] if options.by else []
    begin = "Two-stage analysis. In each trial" if several else "In the trial"
    return _joined(begin, *parts, *(_shape_sentences(options) if several else ()))


def _joined(*sentences: str) -> str:
    return " ".join(filter(None, sentences))


def interaction_sentence(options: PoolingOptions, *, several: bool = True) -> str:
    """How effect modification was analysed; ``several`` trials were pooled."""
    text = f"Effect modification by {', '.join(options.by_columns)}: each trial's own "
    if options.effect in EVENTS:
        model = "Cox" if options.effect == "hazard-ratio" else "logistic"
        is_both = options.model != "two-stage"
        pooled = (
            "; pooled on the log scale by REML as the main effect, several levels jointly (Jackson "
            "& Riley 2014). Effects by level are floating (Godolphin et al. 2023)"
        )
        return (
            f"{text}{model} model with the treatment by covariate interaction (numbers linear), of "
            f"the active arm and control alone{pooled * several}. Levels of a trial in which no or "
            "all participants had the event are left out; where one arm has no event, Firth's "
            "penalised likelihood was used."
            + " The one-stage interaction is treatment by covariate less the trial's mean, common "
            "to the trials, next to a random treatment effect." * (several and is_both)
        )
    pooled = (
        "; pooled by REML as the main effect, several levels jointly with one between-trial "
        "variance for all contrasts, scaled as HKSJ (Jackson & Riley 2014). Effects by level are "
        "floating (Godolphin et al. 2023): their differences are the within-trial interactions"
    )
    text += (
        "treatment by covariate interaction (numbers linear), adjusted as the main model, of the "
        f"active arm and control alone{pooled * several}. Participants without a value are left "
        "out of that analysis alone."
    )
    if options.model == "two-stage" or not several:
        return text
    return (
        f"{text} The one-stage interaction has the covariate centred by trial; the trials' means "
        "enter apart (ecological)."
    )


def _shape_sentences(options: PoolingOptions) -> list[str]:
    """Splines and meta-regression, where they were asked for."""
    found = []
    if options.spline:
        found.append(
            "The effect over each number of --by was also taken as a restricted cubic spline of "
            f"{options.spline} knots common to all trials (Harrell's quantiles, rounded): each "
            "trial's coefficients of treatment by spline were pooled as one vector with an "
            "unstructured between-trial covariance by REML, scaled as HKSJ (Jackson & Riley 2014)."
        )
    if options.meta_regression:
        found.append(
            f"Meta-regression on {', '.join(options.regression_columns)}, one at a time: a number "
            "as the mean of the trial's analysed participants, two words that mix within trials as "
            "the share of one in percent, words that do not mix as groups of trials; tau² and "
            "intervals as for the pooled effect (Knapp & Hartung 2003), groups also with a tau² of "
            "each and Wald's test between them. These associations are between trials (ecological)."
        )
    return found


def _event_sentence(stage: FirstStage, options: PoolingOptions) -> str:
    """How each trial's effect on an event was estimated."""
    penalty = "An arm without events has Firth's penalised likelihood (Heinze & Schemper"
    if options.effect == "hazard-ratio":
        model = f"time to {options.event_column} was regressed on randomised arm by a Cox model"
        model, empty = f"{model} (Efron's method for ties)", f"{penalty} 2001)"
    elif options.effect == "odds-ratio":
        model = f"{options.event_column} was regressed on randomised arm by a logistic model"
        empty = f"{penalty} 2002)"
    else:
        model = (
            f"the {EFFECT_NAMES[options.effect]} of {options.event_column} is of the 2 x 2 table"
        )
        empty = "0.5 was added to each cell of a table that gives no estimate or SE without it"
    return (
        f"{model}{_adjusted(stage)}; the reference arm is "
        f"{options.control!r}. Participants were analysed in the arm they were randomised to, "
        f"scanned or not. {empty}; the trial's row says so. Trials without any event say nothing "
        "about a ratio and are left out of it."
    )


def _one_stage_event_sentence(options: PoolingOptions) -> str:
    """The one-stage models of events, and why their effect is random; empty without a model."""
    random = why = ""
    if options.tau2 != "fe":
        random = " and a random treatment effect"
        why = (
            " The effect is random because trials differ in patients and treatment: a common "
            "effect would leave that difference out of the interval."
        )
    if options.effect == "hazard-ratio":
        how = (
            " by penalised partial likelihood, its variance by Laplace's approximation (Ripatti & "
            "Palmgren 2000); as sensitivity analysis with a common effect"
        )
        effect = f"a random treatment effect{how}" if random else "a common effect"
        return (
            "One-stage analysis: one Cox model stratified by trial, with the covariates' effects "
            f"of each trial and {effect}. Wald intervals.{why}"
        )
    if options.effect != "odds-ratio":
        return ""
    return (
        "One-stage analysis: one logistic model with intercept and covariates of each trial"
        f"{random}, the treatment centred by trial, by maximum likelihood (adaptive Gauss-Hermite "
        f"quadrature, {NODES} nodes). Wald intervals.{why}"
    )


def one_stage_sentence(options: PoolingOptions) -> str:
    """How the one-stage model was built and tested."""
    fit = "maximum likelihood, the treatment centred by trial" if options.tau2 == "ml" else "REML"
    test = "Satterthwaite" if options.tau2 == "ml" else "Kenward-Roger"
    asked = {"kenward-roger": test, "satterthwaite": "Satterthwaite", "wald": "Wald"}
    residual = RESIDUAL_NAMES[options.residual].removesuffix(" for all trials")
    own = {
        "effect": "intercept, baseline and covariates of each trial, ",
        "intercept": "baseline and covariates of each trial, random trial intercepts (treatment "
        "and covariates centred by trial), ",
        "correlated": "baseline and covariates of each trial, random trial intercepts correlated "
        "with the effect (treatment and covariates centred by trial), ",
    }[options.random_effects]
    return (
        f"One-stage analysis: all participants in one linear mixed model with {own}"
        f"{'a common' if options.tau2 == 'fe' else 'a random'} treatment effect and {residual}, "
        f"by {fit}; {options.level:g} % interval: {asked[options.ci_one_stage]} (Kenward & Roger "
        "1997, original convention, where it is Kenward-Roger)."
    )


def _model_sentence(stage: FirstStage, options: PoolingOptions) -> str:
    followup, baseline = stage.endpoint.followup, stage.endpoint.baseline
    at_followup = f"{options.outcome} at {followup} was regressed on randomised arm"
    terms = {
        "mean-difference": f"{at_followup} and baseline {options.outcome} (ANCOVA; baseline: "
        f"{baseline})",
        "change": f"the change in {options.outcome} from {baseline} to {followup} was regressed on "
        "randomised arm",
        "follow-up": f"{at_followup}, without a baseline",
        STANDARDISED: f"{at_followup}{' and baseline' * stage.endpoint.has_baseline}, and the "
        "difference divided by the SD of the outcome within the arms (Hedges' g)",
    }[options.effect]
    return (
        f"{terms}{_adjusted(stage)}, by ordinary least squares "
        f"with all arms of the trial in one model; the reference arm is {options.control!r}. "
        "Participants were analysed in the arm they were randomised to."
    )


def _adjusted(stage: FirstStage) -> str:
    """Each covariate that is in the models, and as what."""
    forms = [f"{name} ({form})" for name, form in _covariate_forms(stage).items()]
    return f", adjusted for {', '.join(forms)}" if forms else ""


def _covariate_forms(stage: FirstStage) -> dict[str, str]:
    columns = {str(name) for trial in stage.trials for name in trial.nuisance.columns}
    categories = {name.partition("=")[0] for name in columns if "=" in name}
    forms = {
        name: "as categories" if name in categories else "linear" if name in columns else ""
        for name in stage.endpoint.covariates
    }
    return {name: form for name, form in forms.items() if form}


def _missing_sentence(stage: FirstStage, options: PoolingOptions) -> str:
    """How participants without the outcome, a baseline or a covariate entered."""
    combined = (
        f"{stage.imputations} data sets were analysed and combined within each trial by Rubin's "
        "rules (degrees of freedom: Barnard & Rubin 1999) before pooling."
    )
    lost = stage.people["code"].isin(["no-followup", "no-outcome", "died"]).any()
    sentence = "Participants without the outcome were left out (complete cases)." * bool(lost)
    if options.missing_outcome == "impute":
        sentence = (
            "Missing outcomes were imputed within trial and arm by Bayesian normal regression on "
            f"baseline and covariates; {combined}"
        )
    elif stage.imputations:
        sentence = f"The table's own imputations (column .imp) were used; {combined}"
    if options.missing_baseline == "complete":
        without = bool((stage.people["code"] == "no-baseline").any())
        return _joined(sentence, "Those without a baseline value were left out." * without)
    names = {name.partition("=")[0] for trial in stage.trials for name in trial.imputed}
    if not names:
        return sentence
    # How many is small, and may not be shown; that some were is what a reader needs.
    return _joined(
        sentence,
        f"Missing values of {', '.join(sorted(names))} were replaced by the mean of the trial over "
        "all arms (White & Thompson 2005).",
    )


def second_stage_sentence(options: PoolingOptions) -> str:
    """How the trials' effects were pooled."""
    scale = " on the log scale" if options.effect in RATIOS else ""
    if options.tau2 == "fe":
        return (
            f"Effects were pooled{scale} by inverse variance with a common effect (tau² = 0); "
            f"{options.level:g} % confidence interval: {CI_NAMES[options.headline_ci]}."
        )
    return (
        f"Effects were pooled{scale} by inverse variance with a random effect of the trial (trials "
        "differ in patients and treatment: the headline of every effect measure is the mean over "
        "them, a common effect is a sensitivity analysis); tau² by "
        f"{TAU2_NAMES[options.tau2]}, with its Q-profile interval; {options.level:g} % "
        f"confidence interval: {CI_NAMES[options.headline_ci]}. The prediction interval for a "
        f"new trial uses t with {options.pi_df} degrees of freedom; in simulations such intervals "
        "cover less than they say (about 87 % for 95 % with ten trials and moderate tau)."
    )


# ------------------------------------------------------------------ warnings


def few_trials(arm: str, studies: Sequence[Study]) -> list[str]:
    """The warning about few trials, if it applies."""
    k = sum(study.estimable for study in studies)
    if k not in _FEW_TRIALS:
        return []
    sentence = f"{arm}: {_FEW_TRIALS[k]}"
    return [SeriousWarning(sentence) if k < 3 else sentence]


def warnings_of_rows(table: CohortTable, stage: FirstStage, options: PoolingOptions) -> list[str]:
    """What a reader of the effect must know, one sentence each."""
    found: list[str] = []
    for arm, studies in stage.studies.items():
        lost = [f"{study.trial} ({study.note})" for study in studies if not study.estimable]
        if lost:
            found.append(SeriousWarning(f"{arm}: no estimate from {'; '.join(lost)}."))
        few = [study.trial for study in studies if study.estimable and study.df < _LEAST_DF]
        if few:
            sentence = f"{arm}: the standard error of {', '.join(few)} rests on fewer than "
            sentence += f"{_LEAST_DF} degrees of freedom and may by chance be far too small, and "
            found.append(SeriousWarning(f"{sentence}the weight far too large."))
    if len(stage.arms) > 1:
        found.append(
            f"The active arms {', '.join(stage.arms)} are pooled one by one. Where they share a "
            "control arm their effects are correlated: they must not be compared or averaged as "
            "if they were independent. If they are names of one treatment, map them to one name."
        )
    forms = _covariate_forms(stage)
    found += [
        f"{name} has a single value in all trials: nothing is adjusted for it."
        for name in stage.endpoint.covariates
        if name not in forms
    ]
    found += _missing_warnings(stage, options)
    found += [
        SeriousWarning(f"The rows mix values of {name}: {', '.join(values)}.")
        for name, values in sorted(table.conventions.items())
        if len(values) > 1
    ]
    few = sorted({trial for _, trial in few_event_trials(stage.studies, options.min_cell)})
    if few:
        found.append(
            f"Fewer than {options.min_cell} events in an arm: the effects of {', '.join(few)} are "
            "pooled but not shown, because estimate, SE and n give the count back (where there is "
            "only one such trial, a second one is withheld too). Where these counts are public, or "
            "the output is not released, use --min-cell 0."
        )
    return [*found, *table.warnings]


def _missing_warnings(stage: FirstStage, options: PoolingOptions) -> list[str]:
    people = stage.people
    found: list[str] = []
    compared = in_two_arms(people[["code", "randomised"]])
    single = present(people.loc[people["code"] == "one-arm-trial", "trial"])
    if single:
        sentence = f"Left out, because all randomised are in one arm: {', '.join(single)}."
        found.append(SeriousWarning(sentence))
    other = people[people["code"] == "no-control"]
    if len(other):
        arms = ", ".join(
            f"{trial} ({', '.join(present(part['arm']))})" for trial, part in each_trial(other)
        )
        sentence = f"Left out, because no arm is called {options.control!r} (--control): {arms}."
        found.append(SeriousWarning(f"{sentence} Map their arms if one of them is the control."))
    if people["randomised"].notna().any() and compared["randomised"].isna().any():
        found.append("Participants whose randomised is empty are taken as randomised.")
    without = [t.trial for t in stage.trials if not t.has_baseline]
    if options.effect == "mean-difference" and without:
        found.append(
            f"No analysed participant has a baseline in {', '.join(without)}: the effect there "
            "is not adjusted for it."
        )
    share = int((people["code"] == "").sum()) / len(compared) if len(compared) else 0.0
    if share < 0.95:
        if options.effect in EVENTS:
            why = (
                "The others have no known event or time, or are of trials that say nothing: see "
                "the accounting by arm."
            )
        elif people["died"].any() or people["withdrew"].any():
            why = (
                "Outcomes are missing after deaths or withdrawal, so not at random: see the "
                "accounting by arm before the effect is believed."
            )
        else:
            why = (
                "The outcome of the others is missing; if they differ from those analysed, the "
                "effect is biased: see the accounting by arm."
            )
        sentence = f"{100 * share:.0f} % of the randomised participants are analysed. {why}"
        found.append(SeriousWarning(sentence))
    return found


def integrity_warning(rows: Sequence[IntegrityRow]) -> list[str]:
    """One sentence where checks of the data have findings."""
    trials = list(dict.fromkeys(row.trial for row in rows if row.result == "review"))
    if not trials:
        return []
    sentence = f"Checks of the data have findings to review in {', '.join(trials)}: "
    return [SeriousWarning(f"{sentence}see integrity.csv.")]
