"""The methods sentence and the warnings of a pooled analysis, in words of the field."""

from __future__ import annotations

from collections.abc import Sequence

from ..privacy.suppression import few_event_trials
from ..records import CohortTable
from .endpoint.analysis_set import estimand_sentence, worse_direction
from .first_stage.first_stage import FirstStage
from .options import EVENTS, RATIOS, STANDARDISED, WIN_ODDS, PoolingOptions
from .results import IntegrityRow, Study

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
_FEW_TRIALS = {
    1: "Only one trial: this is its own result, nothing was pooled, and neither heterogeneity nor "
    "a prediction interval can be given.",
    2: "Only two trials: the between-trial variance is hardly known, HKSJ intervals have one "
    "degree of freedom, and no prediction interval is given.",
    3: "Only three trials: the between-trial variance is poorly known; read the interval of tau² "
    "and all three confidence intervals.",
    4: "Fewer than five trials: the between-trial variance is poorly known.",
}


def methods_of_rows(stage: FirstStage, options: PoolingOptions) -> str:
    """What was done, as a paper's methods section says it."""
    first = [_model_sentence(stage, options), _missing_sentence(stage, options)]
    if options.effect == WIN_ODDS:
        return " ".join([_win_odds_sentence(stage, options), second_stage_sentence(options)])
    if options.effect in EVENTS:
        parts = [_event_sentence(stage, options), first[1], _event_stages(options)]
        parts += [event_modifier_sentence(options)] if options.by else []
        return " ".join([*parts, *spline_sentence(options), *regression_sentence(options)])
    if options.cluster:
        first.append(
            "Cluster-randomised trials were fitted by a mixed model with a random intercept of "
            f"{options.cluster} (REML, Kenward & Roger 1997) in place of least squares."
        )
    first.append(estimand_sentence(options))
    second = [] if options.model == "one-stage" else [second_stage_sentence(options)]
    alone = options.model == "two-stage" or options.cluster is not None
    single = [] if alone else [one_stage_sentence(options)]
    third = [interaction_sentence(options)] if options.by else []
    third += [*spline_sentence(options), *regression_sentence(options)]
    return " ".join([*first, *second, *single, *third])


def interaction_sentence(options: PoolingOptions) -> str:
    """How effect modification was looked at."""
    text = (
        f"Effect modification by {', '.join(options.by_columns)}: each trial's own treatment by "
        "covariate interaction (numbers linear), adjusted as the main model, of the active arm and "
        "control alone; pooled by REML as the main effect, several levels jointly with one "
        "between-trial variance for all contrasts, scaled as HKSJ (Jackson & Riley 2014). Effects "
        "by level are floating (Godolphin et al. 2023): their differences are the within-trial "
        "interactions. Participants without a value are left out of that analysis alone."
    )
    if options.model != "two-stage":
        text += (
            " The one-stage interaction has the covariate centred by trial; the trials' means "
            "enter apart (ecological)."
        )
    return text


def event_modifier_sentence(options: PoolingOptions) -> str:
    """How effect modification of events was looked at."""
    model = "Cox" if options.effect == "hazard-ratio" else "logistic"
    return (
        f"Effect modification by {', '.join(options.by_columns)}: each trial's own {model} model "
        "with the treatment by covariate interaction (numbers linear), of the active arm and "
        "control alone; pooled on the log scale by REML as the main effect, several levels jointly "
        "(Jackson & Riley 2014). Effects by level are floating (Godolphin et al. 2023). Levels of "
        "a trial in which nobody or everybody had the event are left out; where one arm has no "
        "event, Firth's penalised likelihood was used. Two-stage alone."
    )


def spline_sentence(options: PoolingOptions) -> list[str]:
    """How the shape of an effect over a number was looked at; nothing where it was not."""
    if not options.spline:
        return []
    sentence = (
        f"The effect over each number of --by was also taken as a restricted cubic spline of "
        f"{options.spline} knots common to all trials (Harrell's quantiles, rounded): each trial's "
        "coefficients of treatment by spline were pooled as one vector with an unstructured "
        "between-trial covariance by REML, scaled as HKSJ (Jackson & Riley 2014)."
    )
    return [sentence]


def regression_sentence(options: PoolingOptions) -> list[str]:
    """How effects were compared between trials; nothing where they were not."""
    if not options.meta_regression:
        return []
    names = ", ".join(options.regression_columns)
    sentence = (
        f"Meta-regression on {names}, one at a time: a number as the mean of the trial's analysed "
        "participants, two words that mix within trials as the share of one in percent, words that "
        "do not mix as groups of trials; tau² and intervals as for the pooled effect (Knapp & "
        "Hartung 2003), groups also with a tau² of each and Wald's test between them. These "
        "associations are between trials (ecological)."
    )
    return [sentence]


def _event_sentence(stage: FirstStage, options: PoolingOptions) -> str:
    """How each trial's effect on an event was estimated."""
    if options.effect == "hazard-ratio":
        model = (
            f"time to {options.event_column} was regressed on randomised arm by a Cox model "
            "(Efron's method for ties)"
        )
        empty = "An arm without events has Firth's penalised likelihood (Heinze & Schemper 2001)"
    elif options.effect == "odds-ratio":
        model = f"{options.event_column} was regressed on randomised arm by a logistic model"
        empty = "An arm without events has Firth's penalised likelihood (Heinze & Schemper 2002)"
    else:
        effect = EFFECT_NAMES[options.effect]
        model = f"the {effect} of {options.event_column} is of the 2 x 2 table"
        empty = "0.5 was added to each cell of a table that gives no estimate or SE without it"
    forms = _covariate_forms(stage)
    adjusted = f", adjusted for {', '.join(forms)}" if forms else ""
    return (
        f"Two-stage analysis. In each trial {model}{adjusted}; the reference arm is "
        f"{options.control!r}. Participants were analysed in the arm they were randomised to, "
        f"scanned or not. {empty}; the trial's row says so. Trials without any event say nothing "
        "about a ratio and are left out of it."
    )


def _win_odds_sentence(stage: FirstStage, options: PoolingOptions) -> str:
    return (
        f"{estimand_sentence(options)} In each trial every participant of the active arm was "
        f"compared with every one of the control arm on {options.outcome} at "
        f"{stage.endpoint.followup}, {worse_direction(options)} values being worse; the win odds "
        "are those of doing better, ties counting half, with the variance of DeLong et al. (1988). "
        "Survivors without the outcome were left out."
    )


def _event_stages(options: PoolingOptions) -> str:
    second = second_stage_sentence(options)
    if options.effect == "hazard-ratio":
        single = (
            "One-stage analysis: one Cox model stratified by trial, with a common effect and the "
            "covariates' effects of each trial."
        )
        return second if options.model == "two-stage" else f"{second} {single}"
    return (
        f"{second} Beside it stands the Mantel-Haenszel common effect, which corrects no cell; it "
        "is the headline where events are few."
    )


def one_stage_sentence(options: PoolingOptions) -> str:
    """How the one-stage model was built and tested."""
    fit = "maximum likelihood, the treatment centred by trial" if options.tau2 == "ml" else "REML"
    test = "Satterthwaite" if options.tau2 == "ml" else "Kenward-Roger"
    asked = {"kenward-roger": test, "satterthwaite": "Satterthwaite", "wald": "Wald"}
    residual = {
        "by-trial": "a residual variance of each trial",
        "common": "one residual variance",
        "by-trial-and-arm": "a residual variance of each trial and arm",
    }[options.residual]
    effect = "a common" if options.tau2 == "fe" else "a random"
    own = {
        "effect": "intercept, baseline and covariates of each trial, ",
        "intercept": "baseline and covariates of each trial, random trial intercepts (treatment "
        "and covariates centred by trial), ",
        "correlated": "baseline and covariates of each trial, random trial intercepts correlated "
        "with the effect (treatment and covariates centred by trial), ",
    }[options.random_effects]
    return (
        f"One-stage analysis: all participants in one linear mixed model with {own}"
        f"{effect} treatment effect and {residual}, by {fit}; "
        f"{options.level:g} % interval: {asked[options.ci_one_stage]} (Kenward & Roger 1997, "
        "original convention, where it is Kenward-Roger)."
    )


def _model_sentence(stage: FirstStage, options: PoolingOptions) -> str:
    terms = {
        "mean-difference": f"{options.outcome} at {stage.endpoint.followup} was regressed on "
        f"randomised arm and baseline {options.outcome} (ANCOVA; baseline: "
        f"{stage.endpoint.baseline})",
        "change": f"the change in {options.outcome} from {stage.endpoint.baseline} to "
        f"{stage.endpoint.followup} was regressed on randomised arm",
        "follow-up": f"{options.outcome} at {stage.endpoint.followup} was regressed on randomised "
        "arm, without a baseline",
        STANDARDISED: f"{options.outcome} at {stage.endpoint.followup} was regressed on randomised "
        f"arm{' and baseline' * stage.endpoint.has_baseline}, and the difference divided by the "
        "SD of the outcome within the arms (Hedges' g)",
    }.get(options.effect, "")
    if forms := _covariate_forms(stage):
        terms += f", adjusted for {', '.join(forms)}"
    return (
        f"Two-stage analysis. In each trial {terms}, by ordinary least squares with all arms of "
        f"the trial in one model; the reference arm is {options.control!r}. Participants were "
        "analysed in the arm they were randomised to."
    )


def _covariate_forms(stage: FirstStage) -> list[str]:
    """Each covariate that is in the models, and as what."""
    columns = [str(name) for trial in stage.trials for name in trial.nuisance.columns]
    levels = {
        name for name in stage.endpoint.covariates if any(c.startswith(f"{name}=") for c in columns)
    }
    return [
        f"{name} (as categories)" if name in levels else f"{name} (linear)"
        for name in stage.endpoint.covariates
        if name in levels or name in columns
    ]


def _outcome_sentence(stage: FirstStage, options: PoolingOptions) -> str:
    """What became of participants without the outcome."""
    combined = (
        f"{stage.imputations} data sets were analysed and combined within each trial by Rubin's "
        "rules (degrees of freedom: Barnard & Rubin 1999) before pooling."
    )
    if options.missing_outcome == "impute":
        return (
            "Missing outcomes were imputed within trial and arm by Bayesian normal regression on "
            f"baseline and covariates; {combined}"
        )
    if stage.imputations:
        return f"The table's own imputations (column .imp) were used; {combined}"
    return "Participants without the outcome were left out (complete cases)."


def _missing_sentence(stage: FirstStage, options: PoolingOptions) -> str:
    names = {name.partition("=")[0] for trial in stage.trials for name in trial.imputed}
    sentence = _outcome_sentence(stage, options)
    if options.missing_baseline == "complete":
        return f"{sentence} So were those without a baseline value of the model."
    if not names:
        return sentence
    # How many is small, and may not be released; that some were is what a reader needs.
    return (
        f"{sentence} Missing values of {', '.join(sorted(names))} were replaced by the mean of the "
        "trial over all arms (White & Thompson 2005)."
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
        f"Effects were pooled{scale} by inverse variance with a random effect of the trial; tau² "
        f"by {TAU2_NAMES[options.tau2]}, with its Q-profile interval; {options.level:g} % "
        f"confidence interval: {CI_NAMES[options.headline_ci]}. The prediction interval for a "
        f"new trial uses t with {options.pi_df} degrees of freedom; in simulations such intervals "
        "cover less than they say (about 87 % for 95 % with ten trials and moderate tau)."
    )


# ------------------------------------------------------------------ warnings


def few_trials(arm: str, studies: Sequence[Study]) -> list[str]:
    """The warning about few trials, if it applies."""
    k = sum(study.estimable for study in studies)
    return [f"{arm}: {_FEW_TRIALS[k]}"] if k in _FEW_TRIALS else []


def warnings_of_rows(table: CohortTable, stage: FirstStage, options: PoolingOptions) -> list[str]:
    """What a reader of the effect must know, one sentence each."""
    found = stage_warnings(stage)
    found += _missing_warnings(stage, options)
    found += [
        f"The rows mix values of {name}: {', '.join(values)}."
        for name, values in sorted(table.conventions.items())
        if len(values) > 1
    ]
    found += _few_events(stage, options)
    return [*found, *table.warnings]


def stage_warnings(stage: FirstStage) -> list[str]:
    """What the trials and their models say."""
    found: list[str] = []
    for arm, studies in stage.studies.items():
        lost = [f"{study.trial} ({study.note})" for study in studies if not study.estimable]
        if lost:
            found.append(f"{arm}: no estimate from {'; '.join(lost)}.")
    if len(stage.arms) > 1:
        found.append(
            f"The active arms {', '.join(stage.arms)} are pooled one by one. Where they share a "
            "control arm their effects are correlated: they must not be compared or averaged as "
            "if they were independent. If they are names of one treatment, map them to one name."
        )
    forms = {form.rpartition(" (")[0] for form in _covariate_forms(stage)}
    found += [
        f"{name} has one value alone in all trials: nothing is adjusted for it."
        for name in stage.endpoint.covariates
        if name not in forms
    ]
    return found


def _few_events(stage: FirstStage, options: PoolingOptions) -> list[str]:
    """Which trials' numbers are withheld, because they would give a small count of events back."""
    thin = sorted({trial for _, trial in few_event_trials(stage.studies, options.min_cell)})
    if not thin:
        return []
    sentence = (
        f"Fewer than {options.min_cell} events in an arm: the effects of {', '.join(thin)} are "
        "pooled but not shown, because estimate, SE and n give the count back (a lone such trial "
        "has a second one withheld beside it). Where these counts are public, or the output stays "
        "in the house, use --min-cell 0."
    )
    return [sentence]


def _missing_warnings(stage: FirstStage, options: PoolingOptions) -> list[str]:
    people = stage.people
    found = []
    compared = people[~people["code"].isin(["not-randomised", "no-arm", "one-arm-trial"])]
    single = sorted(set(people.loc[people["code"] == "one-arm-trial", "trial"]))
    if single:
        found.append(f"Left out, because all randomised are in one arm: {', '.join(single)}.")
    unknown = compared["randomised"].map(lambda item: item is None).any()
    stated = people["randomised"].map(lambda item: item is not None).any()
    if stated and unknown:
        found.append("Participants whose randomised is empty are taken as randomised.")
    if options.effect == "mean-difference":
        without = [
            trial.trial for trial in stage.trials if not trial.rows["baseline"].notna().any()
        ]
        if without:
            found.append(
                f"No analysed participant has a baseline in {', '.join(without)}: the effect there "
                "is not adjusted for it."
            )
    return found + share_warning(int((people["code"] == "").sum()), len(compared), options)


def share_warning(analysed: int, compared: int, options: PoolingOptions) -> list[str]:
    """Whether many of the ``compared`` (randomised, of a trial with two arms) are not analysed."""
    share = analysed / compared if compared else 0.0
    if share >= 0.95:
        return []
    return [
        f"{100 * share:.0f} % of the randomised participants are analysed. "
        + (
            "The others have no known event or time, or are of trials that say nothing: see "
            "the accounting by arm."
            if options.effect in EVENTS
            else "Scans are missing not at random (deaths, withdrawal): see the accounting by "
            "arm before the effect is believed."
        )
    ]


def integrity_warning(rows: Sequence[IntegrityRow]) -> list[str]:
    """One sentence where a check of the data wants a look."""
    looks = list(dict.fromkeys(row.trial for row in rows if row.result == "look"))
    if not looks:
        return []
    return [f"Checks of the data want a look in {', '.join(looks)}: see the integrity table."]
