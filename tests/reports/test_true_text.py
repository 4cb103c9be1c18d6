"""Pages say what is true of their run, and nothing that is not: sentences present and absent."""

from __future__ import annotations

import re
from functools import cache
from html import unescape
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cardiometa.files import canonical_json
from cardiometa.manifest import RESEARCH_USE, bundled_card, licence_of, notice_for
from tests.kit.pooling_tables import simulate_wide, to_long
from tests.kit.reference_tables import people_frame

from .conftest import OUTCOME, run

# What the card of the bundled model says, as a page shows it.
BUNDLED = bundled_card()["id"]
WEIGHTS_LICENCE = "Licence of the model's weights: CC BY-NC-SA 4.0 (trained on ACDC"
WIDE = simulate_wide(trials=3, seed=2, people=50)
BY_MODEL = {"model_id": BUNDLED, "model_sha256": "ab" * 32}
VOLUNTEERS = people_frame(500, seed=5).drop(columns=["model_id", "model_sha256"])


def with_deaths() -> pd.DataFrame:
    """One in ten of every arm died before the follow-up."""
    long = to_long(WIDE)
    dead = long["participant_id"].str[-1] == "3"
    long["death_day"] = np.where(dead, 200.0, np.nan)
    return long[~(dead & (long["visit"] != "baseline"))]


def with_missing() -> pd.DataFrame:
    missing = WIDE["participant_id"].str[-1].isin(["3", "4"])
    return WIDE.assign(lv_ef_percent=WIDE["lv_ef_percent"].mask(missing), **BY_MODEL)


def with_one_arm_missing() -> pd.DataFrame:
    """Most outcomes of the active arm of one trial are missing."""
    active = WIDE.index[(WIDE["trial"] == "T1") & (WIDE["arm"] == "active")]
    return WIDE.assign(lv_ef_percent=WIDE["lv_ef_percent"].mask(WIDE.index.isin(active[:15])))


POOLED = {
    "complete": (WIDE, OUTCOME),
    "single": (WIDE[WIDE["trial"] == "T1"], OUTCOME),
    "deaths": (with_deaths(), ("--outcome", "lv_ef_percent")),
    "by-model": (with_missing(), OUTCOME),
    "one-arm-missing": (with_one_arm_missing(), OUTCOME),
    "own-model": (WIDE.assign(model_id="our-net", model_sha256="cd" * 32), OUTCOME),
    "like-bundled": (WIDE.assign(model_id="cardiometa-sax-mine", model_sha256="ab" * 32), OUTCOME),
    "published": (
        pd.DataFrame({"trial": list("ABC"), "estimate": [1, 2, 1.5], "se": [0.5, 0.6, 0.4]}),
        (),
    ),
}
RANGES = {
    "own-table": VOLUNTEERS,
    "one-trial": VOLUNTEERS[VOLUNTEERS["trial"] == "ALPHA"],
    "by-model": VOLUNTEERS.assign(**BY_MODEL),
}


@pytest.fixture(scope="module")
def text_of(tmp_path_factory: pytest.TempPathFactory):
    """The text of a page, and of what stands before its contents, by command and name."""
    folder: Path = tmp_path_factory.mktemp("text")

    @cache
    def page(command: str, name: str) -> str:
        frame, asked = POOLED[name] if command == "pool-trials" else (RANGES[name], ())
        if command == "reference-ranges":
            asked = ("--measure", "lv_edv_ml", "--method", "strata", "--bootstrap", "200")
        path = folder / f"{command}-{name}.csv"
        frame.to_csv(path, index=False)
        html = run(command, path, *asked, out=folder / path.stem).html
        html = re.sub(r"<(style|svg).*?</\1>", "", html, flags=re.DOTALL)
        return re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]+>", " ", html)))

    return page


DEATHS = ("survived", "alive at the follow-up", "no deaths", "worst", "Died")
POOLING = ("Pooled effect", "Effects were pooled", "prediction interval for the effect", "τ²")


@pytest.mark.parametrize(
    ("name", "present", "absent"),
    [
        (
            "complete",
            ("Effects were pooled", "diamond is the pooled effect", RESEARCH_USE),
            (*DEATHS, "at random", "attended", "complete cases", WEIGHTS_LICENCE),
        ),
        (
            "single",
            ("Treatment effect", "In the trial lv_ef_percent", "nothing is pooled"),
            (*DEATHS, *POOLING, "One-stage analysis", "one-stage model", WEIGHTS_LICENCE),
        ),
        (
            "deaths",
            ("survived and attended", "alive at the follow-up", "a death is the worst outcome",
             "missing after deaths or withdrawal, so not at random", "complete cases"),
            ("no deaths", WEIGHTS_LICENCE),
        ),
        (
            "by-model",
            (WEIGHTS_LICENCE, BUNDLED, "participants who attended", "complete cases",
             "if they differ from those analysed"),
            (*DEATHS, "at random"),
        ),
        (
            "one-arm-missing",
            ("T1: the arms differ in how many have no outcome",
             "read the table by arm and the delta-adjusted analysis with it"),
            (*DEATHS, "a death"),
        ),
        ("own-model", ("our-net", RESEARCH_USE), ("CC BY-NC-SA", "Licence of the model's")),
        ("like-bundled", ("cardiometa-sax-mine", RESEARCH_USE), ("CC BY-NC-SA", "Licence of")),
        (
            "published",
            ("As published", "Effects were pooled", "published effects were taken as they are"),
            (*DEATHS, "one-stage model", "Student's t", "left ventricle", "Estimand", "attended",
             "Counts of fewer than"),
        ),
    ],
)  # fmt: skip
def test_a_pooled_analysis(text_of, name, present, absent):
    text = text_of("pool-trials", name)
    assert [one for one in present if one not in text] == []
    assert [one for one in absent if one in text] == []


@pytest.mark.parametrize(
    ("name", "present", "absent"),
    [
        (
            "own-table",
            ("Ethnicity All contains all participants", "Within trials",
             "Participants of different trials were pooled"),
            ("provisional", "the model's own error", WEIGHTS_LICENCE),
        ),
        (
            "one-trial",
            ("least squares adjusted for age (HC3",),
            ("provisional", "Within trials", "Between trials", "different trials", "left-out trial",
             "the mean of a new trial", WEIGHTS_LICENCE),
        ),
        ("by-model", ("Limits by ethnicity are provisional", WEIGHTS_LICENCE), ()),
    ],
)  # fmt: skip
def test_reference_ranges(text_of, name, present, absent):
    text = text_of("reference-ranges", name)
    assert [one for one in present if one not in text] == []
    assert [one for one in absent if one.lower() in text.lower()] == []


def test_serious_warnings_are_under_the_result_and_notes_after_the_others(text_of):
    head, _, rest = text_of("pool-trials", "by-model").partition(" Contents ")
    assert "Figure 1." in head.partition("of the randomised participants are analysed")[0]
    assert "of the randomised participants are analysed" in head
    assert "Only three trials" not in head
    assert "Only three trials" in rest.partition(" Notes ")[2]
    head, _, rest = text_of("pool-trials", "single").partition(" Contents ")
    assert "Only one trial" in head
    assert "Only one trial" not in rest


def test_the_licence_is_what_the_models_card_says(tmp_path):
    bundled = licence_of([BUNDLED])
    assert WEIGHTS_LICENCE in notice_for(bundled)
    assert licence_of(["our-net", BUNDLED, BUNDLED]) == bundled
    assert licence_of(["our-net", "cardiometa-sax-mine", ""]) == licence_of([]) == ""
    assert notice_for("") == RESEARCH_USE
    record = {"command": "segment", "model": {"id": "our-net", "licence": "MIT"}}
    (tmp_path / "cardiometa.json").write_text(canonical_json(record))
    assert licence_of(["our-net"], [tmp_path, tmp_path / "none"]) == "MIT"
    assert licence_of(["other"], [tmp_path]) == ""
    assert notice_for("MIT").endswith("Licence of the model's weights: MIT")
