"""``cardiometa evaluate`` from the command line on an output of ``segment`` with known labels."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from nibabel.nifti1 import Nifti1Image
from typer.testing import CliRunner

from cardiometa.cli.main import app
from cardiometa.statistics.measurement_error import read_measurement_error
from tests.kit.command_runs import REPORTED
from tests.kit.report_page import assert_self_contained
from tests.kit.segmented_out import (
    BROKEN,
    PEOPLE,
    UNLABELLED,
    heart,
    image,
    make_out,
    model_labels,
    save,
    shares,
)


def evaluate(*arguments: object):
    return CliRunner().invoke(app, ["evaluate", *map(str, arguments)])


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """OUT of segment, its cohort.toml and the folder of labels."""
    return make_out(tmp_path_factory.mktemp("made"))


@pytest.fixture(scope="module")
def out(made: tuple[Path, Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An evaluation against labels as a user would release it."""
    target = tmp_path_factory.mktemp("evaluation") / "out"
    segmented, _, labels = made
    done = evaluate(
        segmented, "--against", "labels", "--labels", labels, "--out", target, "--bootstrap", 200
    )
    assert done.exit_code == 0, done.output
    return target


# ------------------------------------------------------------------ labels


def test_overlap_is_that_of_the_masks(out: Path) -> None:
    found = {
        (r["trial"], r["participant_id"], r["visit"], r["phase"], r["structure"]): r
        for r in rows(out / "overlap.csv")
    }
    for trial, number, visit in (("ALPHA", 5, "baseline"), ("BETA", 7, "rescan")):
        for phase, share in zip(("ED", "ES"), shares(number, visit), strict=True):
            truth = heart(number, share)
            pixels = image(truth, trial, number)[None].astype(float)
            ours = model_labels(pixels)[0]
            for label, name in ((1, "lv_cavity"), (2, "lv_myocardium"), (3, "rv_cavity")):
                row = found[trial, f"{number:03}", visit, phase, name]
                a, b = ours == label, truth == label
                assert float(row["dice"]) == pytest.approx(2 * (a & b).sum() / (a.sum() + b.sum()))
                assert int(row["voxels_reference"]) == b.sum()
                assert row["frame_source"] == "reference"
    # BETA's model lacks the apical slice, 10 mm thick: 5 % of the surface is that far away.
    apex = np.mean([float(r["hd95_mm"]) for k, r in found.items() if k[0] == "BETA"])
    whole = np.mean([float(r["hd95_mm"]) for k, r in found.items() if k[0] == "ALPHA"])
    assert whole == pytest.approx(2, abs=0.1)  # moved by one pixel of 2 mm
    assert apex == pytest.approx(10, abs=0.5)


def test_measures_are_those_of_the_drawn_masks(out: Path, made: tuple[Path, Path, Path]) -> None:
    measured = {
        (r["trial"], r["participant_id"], r["visit"]): r for r in rows(made[0] / "measurements.csv")
    }
    pairs = rows(out / "pairs.csv")
    assert {r["scope"] for r in pairs} == {"whole-stack"}
    for row in pairs:
        key = row["trial"], row["participant_id"], row["visit"]
        assert float(row["model"]) == float(measured[key][row["measure"]])
        if row["measure"] == "lv_edv_ml":
            truth = heart(int(key[1]), shares(int(key[1]), key[2])[0])
            assert float(row["reference"]) == pytest.approx(0.04 * (truth == 1).sum(), rel=1e-6)
    bias = next(
        r
        for r in rows(out / "agreement.csv")
        if (r["measure"], r["group_by"], r["group"]) == ("lv_edv_ml", "trial", "ALPHA")
    )
    # A heart that is only moved has the same volume.
    assert float(bias["bias"]) == pytest.approx(0, abs=1e-6)


def test_every_scan_is_accounted_for(out: Path, made: tuple[Path, Path, Path]) -> None:
    scans = {
        (r["trial"], r["participant_id"], r["visit"]) for r in rows(made[0] / "measurements.csv")
    }
    compared = {(r["trial"], r["participant_id"], r["visit"]) for r in rows(out / "overlap.csv")}
    excluded = {
        (r["trial"], r["participant_id"], r["visit"]): r["code"]
        for r in rows(out / "exclusions.csv")
    }
    assert compared | set(excluded) == scans
    assert not compared & set(excluded)
    assert excluded[*UNLABELLED, "baseline"] == "no-labels"
    assert excluded[*BROKEN, "baseline"] == "failed"
    document = json.loads((out / "evaluation.json").read_text())
    assert document["scans"]["in"] == len(scans)
    assert document["scans"]["compared"] == len(compared)
    assert document["scans"]["excluded"] == {"failed": 2, "no-labels": 1}
    assert len(document["label_files_sha256"]) > 10
    assert document["model"]["id"]


def test_small_groups_are_withheld(out: Path) -> None:
    # 5 of the people compared are black: fewer than 10, so white is withheld too.
    for name in ("agreement.csv", "overlap_summary.csv", "equivalence.csv", "grades.csv"):
        found = [r for r in rows(out / name) if r["group_by"] == "ethnicity"]
        assert {r["group"] for r in found} == {"white", "black"}
        notes = {r["group"]: r["note"] for r in found}
        assert notes == {"black": "n<10", "white": "counts withheld"}
        for row in found:
            numbers = {k: v for k, v in row.items() if k.startswith(("n_", "bias", "mean", "ci_l"))}
            numbers.pop("ci_level", None)
            assert not any(numbers.values()), row


def test_bias_of_a_trial_is_found_beyond_its_margin(out: Path) -> None:
    found = {
        (r["kind"], r["group_by"], r["group"]): r
        for r in rows(out / "equivalence.csv")
        if r["measure"] == "lv_edv_ml"
    }
    assert found["bias", "trial", "ALPHA"]["result"] == "equivalent"
    # One of six slices is a tenth of the cavity, more than twice the margin of 4.9 %.
    assert found["bias", "trial", "BETA"]["result"] == "different beyond margin"
    difference = found["difference from the rest", "trial", "BETA"]
    assert difference["result"] == "different beyond margin"
    estimates = [float(found["bias", "trial", t]["estimate"]) for t in ("BETA", "ALPHA")]
    assert float(difference["estimate"]) == pytest.approx(estimates[0] - estimates[1])
    assert float(difference["ci_level"]) == 90


def test_slices_that_the_model_lacks_are_counted_at_their_end(out: Path) -> None:
    found = {
        (r["structure"], r["phase"], r["end"], r["error"]): r
        for r in rows(out / "slice_errors.csv")
        if (r["group_by"], r["group"]) == ("trial", "BETA")
    }
    for structure in ("lv_cavity", "rv_cavity"):
        for phase in ("ED", "ES"):
            missed = found[structure, phase, "apex", "false-negative"]
            assert (missed["percent"], missed["n_slices"]) == ("100.0", missed["n_scans"])
            for end, error in (("base", "false-negative"), ("apex", "false-positive")):
                assert found[structure, phase, end, error]["n_slices"] == "0"
    large = {r["group"]: r for r in rows(out / "large_errors.csv") if r["group_by"] == "trial"}
    assert large["ALPHA"]["n_events"] == "0"


def test_other_commands_can_read_the_error_of_the_measures(out: Path) -> None:
    error = read_measurement_error(out / "evaluation.json")
    assert (error.source, error.against, error.trained_on) == ("evaluation", "labels", "none")
    edv = error.of("lv_edv_ml")
    assert edv is not None
    lines = {group: edv.line("trial", group) for group in edv.groups("trial")}
    alpha, beta = lines["ALPHA"], lines["BETA"]
    assert alpha is not None
    assert beta is not None
    # ALPHA's hearts are only moved; BETA's lack a tenth.
    assert (alpha.slope, alpha.residual_sd) == pytest.approx((1, 0), abs=1e-6)
    assert beta.slope == pytest.approx(0.9, abs=0.02)
    assert "black" not in edv.groups("ethnicity")  # fewer than 10


def test_intervals_of_the_model_are_compared_with_the_reader(
    made: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    segmented, out = tmp_path / "seg", tmp_path / "out"
    shutil.copytree(made[0], segmented)
    measured = rows(segmented / "measurements.csv")
    for row in measured:
        # ALPHA's volumes are right; 1.96 mL are less than the slice that BETA lacks.
        row["lv_edv_ml_sd"] = "" if row["status"] == "failed" else "1"
    with (segmented / "measurements.csv").open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, list(measured[0]))
        writer.writeheader()
        writer.writerows(measured)
    done = evaluate(
        segmented, "--against", "labels", "--labels", made[2], "--out", out, "--bootstrap", 20,
        "--accept", "modified-input",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    found = {
        (r["group_by"], r["group"], r["level"]): r for r in rows(out / "interval_coverage.csv")
    }
    assert {r["measure"] for r in found.values()} == {"lv_edv_ml"}
    assert found["trial", "ALPHA", "95.0"]["percent"] == "100.0"
    assert found["trial", "BETA", "95.0"]["percent"] == "0.0"
    assert len([key for key in found if key[0] == "all"]) == 7
    page = assert_self_contained((out / "report.html").read_text(encoding="utf-8"))
    assert "Calibration of the model's intervals" in page.text
    assert (out / "figures" / "interval_calibration.svg").is_file()


def test_participants_that_the_model_was_trained_on_are_marked(
    made: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    segmented = tmp_path / "seg"
    shutil.copytree(made[0], segmented)
    snapshot = json.loads((segmented / "cohort.json").read_text())
    training = snapshot["model"]["card"].setdefault("training", {})
    training["participants"] = {"Alpha data": ["004"], "alpha": ["005", "006"], "other": ["007"]}
    (segmented / "cohort.json").write_text(json.dumps(snapshot))
    target = tmp_path / "out"
    done = evaluate(
        segmented, "--against", "labels", "--labels", made[2], "--out", target, "--bootstrap", 20
    )
    assert done.exit_code == 0, done.output
    marked = {r["participant_id"] for r in rows(target / "pairs.csv") if r["trained_on"] == "true"}
    assert marked == {"004", "005", "006"}
    assert {r["trial"] for r in rows(target / "pairs.csv") if r["trained_on"] == "true"} == {
        "ALPHA"
    }
    document = json.loads((target / "evaluation.json").read_text())
    assert any(
        "BETA: participants have ids of the data set other" in w for w in document["warnings"]
    )
    assert document["measurement_error"]["trained_on"] == "excluded"
    sets = {r["scans_used"] for r in rows(target / "agreement.csv") if r["group_by"] == "all"}
    assert "not-trained-on" in sets


def test_the_page_shows_nobody_and_stands_alone(out: Path) -> None:
    html = (out / "report.html").read_text(encoding="utf-8")
    page = assert_self_contained(html)
    assert "Research use only" in page.text
    assert "Internal: this page shows" not in page.text
    for title in ("Overlap", "Agreement of measures", "Groups and equivalence", "Methods"):
        assert title in page.text
    figures = sorted(p.name for p in (out / "figures").glob("*.svg"))
    assert {"overlap.svg", "dice_by_group.svg", "bland_altman.svg"} <= set(figures)
    assert "groups_lv_edv_ml.svg" in figures


def test_internal_shows_scans_and_says_so(
    out: Path, made: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    done = evaluate(
        made[0], "--against", "labels", "--labels", made[2], "--out", tmp_path / "own",
        "--internal", "--bootstrap", 50, "--margin", "dice=0.02",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    assert "Internal: this page shows" in (tmp_path / "own" / "report.html").read_text("utf-8")
    black = [
        r
        for r in rows(tmp_path / "own" / "agreement.csv")
        if (r["group"], r["measure"]) == ("black", "lv_edv_ml")
    ]
    assert [r["n_people"] for r in black] == ["5"]
    dice = {
        r["group"]: r
        for r in rows(tmp_path / "own" / "equivalence.csv")
        if (r["measure"], r["group_by"]) == ("dice_lv_cavity", "trial")
    }
    # BETA lacks a slice, and 0.02 is less than that.
    assert dice["BETA"]["result"] == "different beyond margin"
    assert float(dice["BETA"]["estimate"]) == pytest.approx(-float(dice["ALPHA"]["estimate"]))
    # A mark a scan: more drawn paths than in the page for release.
    name = "figures/bland_altman.svg"
    marks = [(folder / name).read_text().count("<use") for folder in (tmp_path / "own", out)]
    assert marks[0] > marks[1] + 10


def test_the_same_bytes_again(out: Path, made: tuple[Path, Path, Path], tmp_path: Path) -> None:
    arguments = (made[0], "--against", "labels", "--labels", made[2], "--bootstrap", 200)
    again = tmp_path / "again"
    assert evaluate(*arguments, "--out", again).exit_code == 0
    names = sorted(str(p.relative_to(out)) for p in out.rglob("*") if p.is_file())
    assert names == sorted(str(p.relative_to(again)) for p in again.rglob("*") if p.is_file())
    for name in names:
        if name != "cardiometa.json":
            assert (out / name).read_bytes() == (again / name).read_bytes(), name
    # Other options need --overwrite.
    refused = evaluate(*arguments, "--min-cell", 5, "--out", again)
    assert refused.exit_code == 2
    assert "min_cell" in refused.output


def test_labels_numbered_the_other_way_are_refused(
    made: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    done = evaluate(
        made[0], "--against", "labels", "--labels", made[2], "--label-order", "acdc", "--out",
        tmp_path / "out",
    )  # fmt: skip
    assert done.exit_code == 3
    assert "--label-order cardiometa" in done.output
    assert not (tmp_path / "out").exists()


def test_labels_that_cannot_be_used_end_with_4_and_their_reason(
    made: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    labels = tmp_path / "labels"
    shutil.copytree(made[2] / "ALPHA", labels / "ALPHA")
    (labels / "ALPHA" / "003" / "baseline" / "003_ED_gt.nii").write_bytes(b"no image")
    save(labels / "ALPHA" / "004" / "baseline" / "004_ES_gt.nii", heart(4, 0.5)[:, :40])
    lv_only = heart(5, 1.0)
    save(
        labels / "ALPHA" / "005" / "baseline" / "005_ED_gt.nii", np.where(lv_only == 3, 0, lv_only)
    )
    done = evaluate(
        made[0], "--against", "labels", "--labels", labels, "--out", tmp_path / "out",
        "--bootstrap", 20, "--quiet",
    )  # fmt: skip
    assert done.exit_code == 4, done.output
    codes = {
        r["participant_id"]: r["code"]
        for r in rows(tmp_path / "out" / "exclusions.csv")
        if r["trial"] == "ALPHA"
    }
    assert codes == {"001": "no-labels", "003": "labels-unusable", "004": "labels-unusable"}
    one = {
        (r["phase"], r["structure"]): r
        for r in rows(tmp_path / "out" / "overlap.csv")
        if r["participant_id"] == "005"
    }
    # Drawn by this reader elsewhere, not here: Dice 0 and no distance.
    assert float(one["ED", "rv_cavity"]["dice"]) == 0
    assert one["ED", "rv_cavity"]["hd95_mm"] == ""
    assert one["ED", "rv_cavity"]["note"] == "absent-in-one"


def test_a_mask_changed_in_place_is_not_the_models(
    made: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    segmented = tmp_path / "seg"
    shutil.copytree(made[0], segmented)
    mask = segmented / "scans" / "ALPHA" / "004" / "baseline" / "segmentation.nii.gz"
    mask.write_bytes(mask.read_bytes() + b"\0")
    labels = tmp_path / "labels"
    for person in ("004", "005"):
        shutil.copytree(made[2] / "ALPHA" / person, labels / "ALPHA" / person)
    done = evaluate(
        segmented, "--against", "labels", "--labels", labels, "--out", tmp_path / "out", "--quiet"
    )
    assert done.exit_code == 4
    found = {
        r["participant_id"]: r["code"]
        for r in rows(tmp_path / "out" / "exclusions.csv")
        if r["trial"] == "ALPHA"
    }
    assert found["004"] == "mask-changed"
    # One person: every number is withheld.
    agreement = rows(tmp_path / "out" / "agreement.csv")
    assert agreement
    assert {r["note"] for r in agreement} == {"n<10"}
    assert not any(r["bias"] or r["mae"] for r in agreement)


def test_nothing_to_compare_is_exit_3(made: tuple[Path, Path, Path], tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    done = evaluate(
        made[0], "--against", "labels", "--labels", tmp_path / "empty", "--out", tmp_path / "out"
    )
    assert done.exit_code == 3
    assert "no-labels" in done.output
    assert not (tmp_path / "out").exists()


# ------------------------------------------------------------------ reported, repeats


def test_reported_values_and_repeat_visits(made: tuple[Path, Path, Path], tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = evaluate(
        made[0], *REPORTED, "--repeat-visits", "baseline,rescan", "--out", out,
        "--margin", "lv_edv_ml=2", "--bootstrap", 100,
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    codes = [r["code"] for r in rows(out / "exclusions.csv")]
    assert codes.count("no-reported") == 3  # 003 of either trial
    bias = {
        r["group"]: r
        for r in rows(out / "agreement.csv")
        if (r["measure"], r["group_by"]) == ("lv_edv_ml", "trial")
    }
    assert float(bias["ALPHA"]["bias"]) == pytest.approx(-5, abs=1e-6)
    assert bias["ALPHA"]["loa_method"] == "carkeet-2015"
    # BETA's people have two scans each: the interval is of people.
    assert bias["BETA"]["loa_method"] == "zou-2013"
    assert bias["BETA"]["reliability_ci"] == "bootstrap over participants"
    assert int(bias["BETA"]["n_scans"]) == 2 * int(bias["BETA"]["n_people"])
    margin = next(r for r in rows(out / "equivalence.csv") if r["measure"] == "lv_edv_ml")
    assert (float(margin["margin"]), margin["margin_source"]) == (2.0, "set by --margin")
    document = json.loads((out / "evaluation.json").read_text())
    assert document["reported_papillary"]["myocardium"] == 20
    assert any("BETA" in w and "papillary" in w for w in document["warnings"])
    assert not any("ALPHA" in w for w in document["warnings"])
    assert "Papillary" in (out / "report.html").read_text(encoding="utf-8")
    repeat = {(r["source"], r["measure"]): r for r in rows(out / "repeatability.csv")}
    model = repeat["model", "lv_edv_ml"]
    assert int(model["n_people"]) == PEOPLE - 1
    values = {
        (r["participant_id"], r["visit"]): r
        for r in rows(made[0] / "measurements.csv")
        if r["trial"] == "BETA"
    }
    pairs = [
        [float(values[f"{n:03}", v]["lv_edv_ml"]) for v in ("baseline", "rescan")]
        for n in range(1, PEOPLE + 1)
        if f"{n:03}" != BROKEN[1]
    ]
    sem = np.sqrt(np.mean([(b - a) ** 2 for a, b in pairs]) / 2)
    assert float(model["sem"]) == pytest.approx(sem)
    assert float(model["sdc"]) == pytest.approx(1.96 * np.sqrt(2) * sem, rel=1e-4)
    assert ("reference", "lv_edv_ml") in repeat


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "--out"),
        (["--out", "x"], "Nothing to compare"),
        (["--out", "x", "--against", "truth"], "labels, reported"),
        (["--out", "x", "--against", "labels"], "--labels"),
        (["--out", "x", "--repeat-visits", "one"], "two visits"),
        (["--out", "x", "--against", "reported", "--margin", "ef=3"], "unknown measure"),
        (["--out", "x", "--against", "reported", "--age-bands", "40,30"], "increasing"),
        (["--export-for-reading", "x"], "--key"),
        (["--export-for-reading", "x", "--key", "k.csv"], "--cohort"),
        (["--export-for-reading", "x", "--key", "x/k.csv", "--cohort", "."], "inside the package"),
    ],
)
def test_wrong_use(
    made: tuple[Path, Path, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    done = evaluate(made[0], *arguments)
    assert done.exit_code == 2, done.output
    assert said in done.output
    assert not list(tmp_path.iterdir())


def test_visits_that_nobody_has_both_of(made: tuple[Path, Path, Path], tmp_path: Path) -> None:
    done = evaluate(made[0], "--repeat-visits", "baseline,month12", "--out", tmp_path / "out")
    assert done.exit_code == 3
    assert "baseline, rescan" in done.output


# ------------------------------------------------------------------ blind reading


@pytest.fixture
def package(made: tuple[Path, Path, Path], tmp_path: Path) -> tuple[Path, Path]:
    """A package and its key."""
    folder, key = tmp_path / "package", tmp_path / "key.csv"
    done = evaluate(
        made[0], "--export-for-reading", folder, "--cohort", made[1], "--key", key, "--share", 50
    )
    assert done.exit_code == 0, done.output
    return folder, key


def test_a_package_tells_the_reader_nothing(
    made: tuple[Path, Path, Path], package: tuple[Path, Path]
) -> None:
    folder, key = package
    listed = rows(key)
    status = {
        (r["trial"], r["participant_id"], r["visit"]): r["status"]
        for r in rows(made[0] / "measurements.csv")
    }
    flagged = {k for k, s in status.items() if s == "review"}
    others = {k for k, s in status.items() if s == "ok"}
    chosen = {(r["trial"], r["participant_id"], r["visit"]): r["sample"] for r in listed}
    assert {k for k, s in chosen.items() if s == "flagged"} == flagged
    drawn = {k for k, s in chosen.items() if s == "random"}
    assert drawn <= others
    assert len(drawn) == -(-len(others) // 2)
    # Neither the order of the scans nor the two samples one after the other.
    keys = [(r["trial"], r["participant_id"], r["visit"]) for r in listed]
    assert keys != sorted(keys)
    samples = [r["sample"] for r in listed]
    assert samples not in (sorted(samples), sorted(samples, reverse=True))
    assert [r["code"] for r in listed] == [f"case-{n:03}" for n in range(1, len(listed) + 1)]
    files = [p for p in folder.rglob("*") if p.is_file()]
    assert {p.parent.name for p in files if p.parent != folder} == {r["code"] for r in listed}
    told = b"".join(p.read_bytes() for p in files if p.suffix in (".txt", ".json"))
    names = " ".join(str(p.relative_to(folder)) for p in files).encode()
    for word in (b"ALPHA", b"BETA", b"rescan", b"baseline", b"flagged", b"active", b"review"):
        assert word not in told + names, word
    header = Nifti1Image.from_filename(folder / "case-001" / "ED.nii.gz").header
    assert bytes(header["descrip"]).strip(b"\0") == b""
    assert bytes(header["db_name"]).strip(b"\0") == b""


def test_images_and_masks_of_a_package_are_those_of_its_scan(package: tuple[Path, Path]) -> None:
    folder, key = package
    row = next(r for r in rows(key) if r["participant_id"] not in ("001", "002"))
    number = int(row["participant_id"])
    for phase, share in zip(("ED", "ES"), shares(number, row["visit"]), strict=True):
        case = folder / row["code"]
        pixels = np.asarray(Nifti1Image.from_filename(case / f"{phase}.nii.gz").dataobj)
        expected = image(heart(number, share), row["trial"], number)
        np.testing.assert_array_equal(pixels.transpose(2, 1, 0), expected)
        mask = np.asarray(Nifti1Image.from_filename(case / f"{phase}_mask.nii.gz").dataobj)
        np.testing.assert_array_equal(
            mask.transpose(2, 1, 0), model_labels(expected[None].astype(float))[0]
        )


def test_a_package_that_cannot_be_whole_leaves_nothing(
    made: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    cohort = tmp_path / "cohort"
    shutil.copytree(made[1].parent, cohort, ignore=shutil.ignore_patterns("seg", "labels"))
    for name in ("004_baseline_ED.nii", "005_baseline_ES.nii"):
        (cohort / "ALPHA" / "images" / name).write_bytes(b"gone")
    package, key = tmp_path / "package", tmp_path / "key.csv"
    done = evaluate(
        made[0], "--export-for-reading", package, "--cohort", cohort / "cohort.toml", "--key", key,
        "--share", 100,
    )  # fmt: skip
    assert done.exit_code == 3
    assert "ALPHA/004/baseline" in done.output
    assert "ALPHA/005/baseline" in done.output
    assert not key.exists()
    assert not [p for p in package.rglob("*") if p.is_file()]


def test_only_changed_masks_come_home(
    made: tuple[Path, Path, Path], package: tuple[Path, Path], tmp_path: Path
) -> None:
    folder, key = package
    row = rows(key)[0]
    path = folder / row["code"] / "ES_mask.nii.gz"
    seen = Nifti1Image.from_filename(path)
    mended = np.asarray(seen.dataobj).astype(np.int16)
    mended[mended == 3] = 0
    # As ITK-SNAP saves it: another type, and here uncompressed.
    path.unlink()
    (folder / row["code"] / "ES_mask.nii").write_bytes(Nifti1Image(mended, seen.affine).to_bytes())
    home = tmp_path / "home"
    done = evaluate(made[0], "--import-reading", folder, "--key", key, "--out", home)
    assert done.exit_code == 0, done.output
    scan = Path(row["trial"], row["participant_id"], row["visit"])
    written = [
        p.relative_to(home / "corrections") for p in (home / "corrections").rglob("*.nii.gz")
    ]
    assert written == [scan / "segmentation.nii.gz"]
    whole = np.asarray(Nifti1Image.from_filename(home / "corrections" / written[0]).dataobj)
    np.testing.assert_array_equal(whole[..., 1], mended)
    own = Nifti1Image.from_filename(made[0] / "scans" / scan / "segmentation.nii.gz")
    np.testing.assert_array_equal(whole[..., 0], np.asarray(own.dataobj)[..., 0])
    readings = rows(home / "readings.csv")
    assert [r["code"] for r in readings if r["changed"] == "true"] == [row["code"]]
    changed = next(r for r in readings if r["changed"] == "true")
    assert float(changed["dice_rv_cavity_es"]) == 0
    assert float(changed["dice_lv_cavity_ed"]) == 1
    rates = {
        (r["kind"], r["sample"], r["group_by"], r["group"]): r for r in rows(home / "rates.csv")
    }
    failed = rates["failure", "all", "all", "all"]
    assert int(failed["n_scans"]) == len(rows(made[0] / "measurements.csv"))
    assert failed["note"] == "events<10"
    assert any(key[2] == "arm" for key in rates)
    # The read masks are labels to compare with.
    compared = evaluate(
        made[0], "--against", "labels", "--labels", home / "labels.csv", "--out", tmp_path / "ev",
        "--bootstrap", 10, "--quiet",
    )  # fmt: skip
    assert compared.exit_code == 0, compared.output


def test_corrections_of_a_package_are_taken_by_segment(
    made: tuple[Path, Path, Path], package: tuple[Path, Path], tmp_path: Path
) -> None:
    folder, key = package
    row = next(r for r in rows(key) if r["trial"] == "ALPHA")
    path = folder / row["code"] / "ED_mask.nii.gz"
    seen = Nifti1Image.from_filename(path)
    mended = np.asarray(seen.dataobj).copy()
    mended[mended == 1] = 2
    mended[24:48, 20:44, :] = 1  # larger than any heart at ES
    path.write_bytes(Nifti1Image(mended, seen.affine).to_bytes())
    home, segmented = tmp_path / "home", tmp_path / "seg"
    path.rename(path.with_name("ED_mask.nii"))
    done = evaluate(made[0], "--import-reading", folder, "--key", key, "--out", home)
    assert done.exit_code == 0, done.output
    shutil.copytree(made[0], segmented)
    done = CliRunner().invoke(
        app,
        ["segment", str(made[1]), "--out", str(segmented), "--quiet", "--workers", "1",
         "--corrections", str(home / "corrections")],
    )  # fmt: skip
    assert done.exit_code in (0, 4), done.output
    found = {(r["trial"], r["participant_id"]): r for r in rows(segmented / "measurements.csv")}
    corrected = found["ALPHA", row["participant_id"]]
    assert "corrected" in corrected["flags"].split(";")
    # The others were returned unchanged: accepted.
    codes = {who: set(r["flags"].split(";")) for who, r in found.items()}
    read = {(r["trial"], r["participant_id"]) for r in rows(key)}
    assert {who for who, own in codes.items() if own & {"accepted", "corrected"}} == read
    assert all(found[who]["status"] == "ok" for who in read if "accepted" in codes[who])
    assert float(corrected["lv_edv_ml"]) == pytest.approx(24 * 24 * 6 * 0.04)
    # The model itself is still what is evaluated.
    out = tmp_path / "ev"
    done = evaluate(
        segmented, "--against", "labels", "--labels", made[2], "--out", out, "--bootstrap", 10
    )
    assert done.exit_code == 0, done.output
    assert "Some scans were corrected" in done.output
    pair = next(
        r
        for r in rows(out / "pairs.csv")
        if (r["trial"], r["participant_id"], r["measure"])
        == ("ALPHA", row["participant_id"], "lv_edv_ml")
    )
    assert float(pair["model"]) == pytest.approx(float(pair["reference"]), rel=1e-6)
    # And a scan that was read is not given to a reader again.
    done = evaluate(
        segmented, "--export-for-reading", tmp_path / "second", "--cohort", made[1], "--key",
        tmp_path / "second.csv", "--share", 100,
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    again = {(r["trial"], r["participant_id"]) for r in rows(tmp_path / "second.csv")}
    assert ("ALPHA", row["participant_id"]) not in again


def test_a_package_that_does_not_fit_is_refused(
    made: tuple[Path, Path, Path], package: tuple[Path, Path], tmp_path: Path
) -> None:
    folder, key = package
    other = tmp_path / "other.csv"
    other.write_text(key.read_text().replace("ALPHA", "BETA"))
    done = evaluate(made[0], "--import-reading", folder, "--key", other, "--out", tmp_path / "a")
    assert done.exit_code == 3
    assert "not this package's key" in done.output
    code = rows(key)[0]["code"]
    path = folder / code / "ED_mask.nii.gz"
    seen = Nifti1Image.from_filename(path)
    wrong = np.asarray(seen.dataobj).copy()
    wrong[0, 0, 0] = 7
    path.unlink()
    (folder / code / "ED_mask.nii").write_bytes(Nifti1Image(wrong, seen.affine).to_bytes())
    done = evaluate(made[0], "--import-reading", folder, "--key", key, "--out", tmp_path / "b")
    assert done.exit_code == 3
    assert "unknown labels: 7" in done.output
    assert not (tmp_path / "b").exists()
    (folder / rows(key)[1]["code"] / "ES_mask.nii.gz").unlink()
    done = evaluate(made[0], "--import-reading", folder, "--key", key, "--out", tmp_path / "b")
    assert "2 problems" in done.output
    assert "There is no ES_mask.nii.gz" in done.output
    # A package is never written over another, nor a key over another.
    again = evaluate(
        made[0], "--export-for-reading", folder, "--cohort", made[1], "--key", tmp_path / "n.csv"
    )
    assert again.exit_code == 2
    again = evaluate(
        made[0], "--export-for-reading", tmp_path / "new", "--cohort", made[1], "--key", key
    )
    assert again.exit_code == 2
