"""``withdraw``: what is left is what a run without the person writes, and they stay away."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from cardiometa.commands import withdraw as withdraw_run
from cardiometa.errors import InputError
from cardiometa.locking import OutputLock
from cardiometa.pipeline.bids import bids_subjects
from cardiometa.privacy.withdrawal import key_path
from cardiometa.records import ScanKey
from tests.kit.cohorts import write
from tests.kit.command_runs import REPORTED, Bench
from tests.kit.in_process import segmented_by
from tests.kit.segmented_out import fake_segment
from tests.kit.trees import tree

GONE = ("BETA", "004")


@pytest.fixture(autouse=True)
def known_labels() -> Iterator[None]:
    """The network's place is taken by that of `segmented_out`."""
    with segmented_by(fake_segment):
        yield


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(top=tmp_path)


@pytest.fixture
def out(two_trials: Path, bench: Bench) -> Path:
    return Path(shutil.copytree(two_trials / "seg", bench.top / "seg"))


@pytest.fixture
def cohort(two_trials: Path) -> Path:
    return two_trials / "cohort.toml"


def cohort_without(cohort: Path, folder: Path, *people: tuple[str, str]) -> Path:
    """The same cohort at another place, its tables without some people."""
    shutil.copytree(cohort.parent, folder, ignore=shutil.ignore_patterns("seg", "labels"))
    for trial, person in people:
        for name in ("participants.csv", "scans.csv"):
            path = folder / trial / name
            lines = path.read_text().splitlines(keepends=True)
            path.write_text("".join(x for x in lines if not x.startswith(f"{person},")))
    return folder / "cohort.toml"


def withdraw(bench: Bench, out: Path, *people: tuple[str, str], code: int = 0, **more: object):
    arguments = [part for who in people for part in ("--participant", "/".join(who))]
    for name, value in more.items():
        option = f"--{name.replace('_', '-')}"
        arguments += [option] if value is True else [option, str(value)]
    return bench.run("withdraw", out, *arguments, code=code)


def test_what_is_left_is_what_a_run_without_the_person_writes(
    out: Path, cohort: Path, bench: Bench
) -> None:
    before = tree(out)
    done = withdraw(bench, out, GONE, ("ALPHA", "005"))
    assert "2 erased, 3 scans removed" in done.text
    fresh = bench.top / "fresh"
    smaller = cohort_without(cohort, bench.top / "cohort", GONE, ("ALPHA", "005"))
    bench.run("segment", smaller, "--out", fresh, "--quiet", code=4)
    # Hashes of the site's tables and what says that people withdrew differ; nothing else does.
    but = ("withdrawals.json", "cardiometa.json", "cohort.json", "flow.json", "report.html")
    but += ("ro-crate-metadata.json",)
    assert tree(out, but=but) == tree(fresh, but=but)
    flow, other = (json.loads((o / "flow.json").read_text()) for o in (out, fresh))
    assert flow["participants"].pop("withdrawn") == 2
    assert flow == other
    page = (out / "report.html").read_text()
    assert "2 participants withdrew" in page
    assert before.keys() > tree(out, but=("withdrawals.json",)).keys()


def test_bids_names_are_those_of_the_masks_and_go_with_the_person(
    out: Path, cohort: Path, bench: Bench
) -> None:
    bench.run("segment", cohort, "--out", out, "--bids", "--quiet", code=4)
    bids = out / "bids"
    masks = {p.relative_to(bids).as_posix(): p for p in bids.rglob("*.nii.gz")}
    name = "sub-BETA004/ses-baseline/anat/sub-BETA004_ses-baseline_desc-cardiometa_dseg.nii.gz"
    source = out / "scans" / "BETA" / "004" / "baseline" / "segmentation.nii.gz"
    assert masks[name].samefile(source)
    assert len(masks) == len(list((out / "scans").rglob("segmentation.nii.gz")))
    described = json.loads((bids / "dataset_description.json").read_text())
    assert described["DatasetType"] == "derivative"
    people = list(
        csv.DictReader((bids / "participants.tsv").read_text().splitlines(), delimiter="\t")
    )
    assert {"participant_id": "sub-BETA004", "trial": "BETA", "source_id": "004"} in people
    withdraw(bench, out, GONE)
    assert not [p for p in bids.rglob("*") if "BETA004" in p.name]
    assert "BETA004" not in (bids / "participants.tsv").read_text()
    left = {p.relative_to(bids).as_posix() for p in bids.rglob("*.nii.gz")}
    assert left == {path for path in masks if "BETA004" not in path}


def test_ids_that_would_share_a_bids_name_are_refused_before_anything_is_done() -> None:
    keys = [
        ScanKey(trial=trial, participant=person, visit=visit)
        for trial, person, visit in (
            ("A", "P-1", "baseline"), ("A", "p1", "baseline"), ("A", "P2", "M-12"),
            ("A", "P2", "m12"), ("B", "Ж", "baseline"), ("B", "P2", "baseline"),
        )
    ]  # fmt: skip
    with pytest.raises(InputError) as caught:
        bids_subjects(keys)
    said = [str(problem) for problem in caught.value.problems]
    assert [text.split(":")[0] for text in said] == [str(keys[i]) for i in (1, 3, 4)]
    assert "that of A/P-1" in said[0]
    assert "that of A/P2/M-12" in said[1]
    assert bids_subjects(keys[5:]) == {keys[5]: ("sub-BP2", "ses-baseline")}


def test_nobody_is_named_in_what_is_left(out: Path, bench: Bench) -> None:
    """The person's id stands in no cell, key or path; who it was is a keyed hash."""
    corrected = json.loads((out / "cardiometa.json").read_text())
    corrected["inputs"][f"correction {GONE[0]}/{GONE[1]}/baseline"] = "ab" * 32
    (out / "cardiometa.json").write_text(json.dumps(corrected))
    withdraw(bench, out, GONE)
    for path in out.rglob("*"):
        assert not {"BETA", "004"} <= set(path.parts)
        if path.suffix == ".csv":
            rows = csv.DictReader(path.read_text().splitlines())
            assert not any((r.get("trial"), r.get("participant_id")) == GONE for r in rows)
    for name in ("cardiometa.json", "cohort.json", "withdrawals.json"):
        assert "BETA/004" not in (out / name).read_text()
    keys = [scan["key"][:2] for scan in json.loads((out / "cohort.json").read_text())["scans"]]
    assert list(GONE) not in keys
    assert "BETA/004" not in (out / "report.html").read_text()


def test_the_list_cannot_be_tried_against_ids_without_its_key(out: Path, bench: Bench) -> None:
    """A copy of OUT does not hold the key; the key is its owner's alone, a new one each time."""
    import hashlib
    import hmac

    withdraw(bench, out, GONE)
    assert key_path(out).parent == out.parent
    if os.name == "posix":
        assert key_path(out).stat().st_mode & 0o077 == 0
    listed = (out / "withdrawals.json").read_text()
    (entry,) = json.loads(listed)["people"]
    check = json.loads(listed)["key_check"]
    # Everything in OUT is tried as a key on every id there could be.
    words = {listed, check, entry, "", "cardiometa", *json.loads(listed)["tables"]}
    for word in words:
        for number in range(1, 400):
            for message in (f"BETA/{number:03}", f"withdrawn 4:BETA{number:03}"):
                for data in (word.encode(), bytes.fromhex(entry)):
                    tried = hmac.new(data, message.encode(), hashlib.sha256).hexdigest()
                    assert tried != entry
    other = Path(shutil.copytree(out, bench.top / "copy"))
    refused = withdraw(bench, other, ("ALPHA", "006"), code=3)
    assert "copy.withdrawals.key" in refused.text


def test_a_resumed_run_does_not_bring_the_person_back(
    out: Path, cohort: Path, bench: Bench
) -> None:
    withdraw(bench, out, GONE)
    before = tree(out)
    for more in ((), ("--restart",)):
        bench.run("segment", cohort, "--out", out, *more, code=4)
        assert tree(out) == before
    bench.run("merge", out, code=4)
    assert tree(out) == before
    # Shards count the people who are left.
    for shard in ("1/2", "2/2"):
        bench.run("segment", cohort, "--out", out, "--shard", shard, code=(0, 4))
    bench.run("merge", out, code=4)
    assert tree(out) == before
    # Without the key nobody goes on.
    key_path(out).rename(bench.top / "elsewhere")
    for command in (("segment", cohort, "--out", out), ("merge", out)):
        refused = bench.run(*command, code=3)
        assert "come back" in refused.text
    assert tree(out) == before


@pytest.fixture(scope="module")
def gone_from(two_trials: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output after an undisturbed withdrawal."""
    whole = Path(shutil.copytree(two_trials / "seg", tmp_path_factory.mktemp("whole") / "seg"))
    withdraw_run.run_withdraw(whole, ["/".join(GONE)])
    return whole


@pytest.mark.parametrize("at", [1, 4, 7])
def test_killed_anywhere_the_same_command_finishes(
    out: Path, gone_from: Path, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    """After the list, before the tables, at the end; then the command is given again."""

    class Killed(BaseException):
        pass

    step, after = divmod(at, 2)
    name = ("write_withdrawals", "remove_erased", "write_tables", "derived_outputs")[step]
    original = getattr(withdraw_run, name)

    def dying(*arguments: object, **options: object) -> object:
        if after:
            original(*arguments, **options)
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(withdraw_run, name, dying)
        with pytest.raises(Killed):
            withdraw_run.run_withdraw(out, ["BETA/004"])
    withdraw_run.run_withdraw(out, ["BETA/004"])
    # The hash is under another key, all the rest is the same.
    assert tree(out, but=("withdrawals.json",)) == tree(gone_from, but=("withdrawals.json",))
    assert len(json.loads((out / "withdrawals.json").read_text())["people"]) == 1


def test_again_and_unknown_and_wrong(out: Path, bench: Bench) -> None:
    before = tree(out)
    unknown = withdraw(bench, out, GONE, ("BETA", "999"), ("GAMMA", "1"), code=3)
    assert "--participant number 2" in unknown.text
    assert "--participant number 3" in unknown.text
    assert withdraw(bench, out, ("BETA",), code=2).text  # no TRIAL/ID
    assert tree(out) == before
    withdraw(bench, out, GONE)
    after = tree(out)
    again = withdraw(bench, out, GONE)
    assert "0 erased" in again.text
    assert "1 withdrawn before" in again.text
    assert tree(out) == after
    shutil.rmtree(bench.top / "seg" / "scans")
    assert withdraw(bench, bench.top, GONE, code=3).text  # no output at all


def test_no_new_data_keeps_rows_and_adds_nothing(out: Path, cohort: Path, bench: Bench) -> None:
    kept = ("BETA", "005")
    before = tree(out)
    done = withdraw(bench, out, kept, keep_data=True)
    assert "their rows stay" in done.text
    assert tree(out, but=("withdrawals.json",)) == before
    # The site adds a visit of two people and changes their ages.
    grown = cohort_without(cohort, bench.top / "cohort")
    scans, people = (grown.parent / "BETA" / n for n in ("scans.csv", "participants.csv"))
    text = scans.read_text()
    for person in ("005", "006"):
        for phase in ("ED", "ES"):
            images = grown.parent / "BETA" / "images"
            shutil.copy(images / f"{person}_rescan_{phase}.nii", images / f"{person}_x_{phase}.nii")
        text += f"{person},followup_24m,{person}_x_ED.nii,{person}_x_ES.nii,,,\n"
    scans.write_text(text)
    lines = people.read_text().splitlines()
    at = lines[0].split(",").index("age_years")
    changed = [lines[0]]
    for line in lines[1:]:
        cells = line.split(",")
        cells[at] = str(float(cells[at]) + 1)
        changed.append(",".join(cells))
    people.write_text("\n".join(changed) + "\n")
    bench.run("segment", grown, "--out", out, "--quiet", code=2)
    bench.run("segment", grown, "--out", out, "--quiet", "--overwrite", code=4)
    after = tree(out)
    rows = {(r["trial"], r["participant_id"], r["visit"]): r for r in after["measurements.csv"]}
    assert ("BETA", "006", "followup_24m") in rows
    assert ("BETA", "005", "followup_24m") not in rows
    old = {(r["trial"], r["participant_id"], r["visit"]): r for r in before["measurements.csv"]}
    for visit in ("baseline", "rescan"):
        assert rows[(*kept, visit)]["lv_edv_ml"] == old[(*kept, visit)]["lv_edv_ml"]
        assert rows[(*kept, visit)]["age_years"] == old[(*kept, visit)]["age_years"]
    assert (
        rows["BETA", "006", "baseline"]["age_years"] != old["BETA", "006", "baseline"]["age_years"]
    )
    # And from there to erasure, but not back.
    withdraw(bench, out, kept)
    assert not any(
        r["participant_id"] == "005" and r["trial"] == "BETA" for r in tree(out)["measurements.csv"]
    )
    refused = withdraw(bench, out, kept, keep_data=True, code=2)
    assert "erased already" in refused.text


def test_what_was_computed_is_stale_until_computed_again(out: Path, bench: Bench) -> None:
    top = bench.top
    ranges = (
        "reference-ranges",
        out,
        "--all",
        "--method",
        "strata",
        "--bootstrap",
        "200",
        "--by",
        "age",
    )
    ranges = (*ranges, "--min-n", "10", "--age-bands", "18", "--use-visit", "baseline")
    ranges = (*ranges, "--measure", "lv_edv_ml", "--accept", "unit")
    bench.run(*ranges, "--out", top / "ranges")
    bench.run(*ranges, "--internal", "--out", top / "away" / "internal")
    compare = ("evaluate", out, *REPORTED, "--bootstrap", "50")
    bench.run(*compare, "--out", top / "eval")
    own = write(top / "own" / "notes.txt", "no output of this program")
    alone = tree(own.parent)
    done = withdraw(bench, out, ("ALPHA", "003"), derived=top / "away" / "internal")
    for name in ("ranges", "eval", "internal"):
        assert re.search(f"outdated until computed again.*: {name}", done.text)
    for folder in (top / "ranges", top / "eval", top / "away" / "internal"):
        assert (folder / "stale.json").is_file()
        assert 'id="stale"' in (folder / "report.html").read_text()
        assert "compute it again" in bench.run("show", folder).text
    assert tree(own.parent) == alone
    bench.run(*ranges, "--out", top / "ranges")
    assert not (top / "ranges" / "stale.json").exists()
    assert 'id="stale"' not in (top / "ranges" / "report.html").read_text()
    for path in (top / "ranges").rglob("*.csv"):
        rows = csv.DictReader(path.read_text().splitlines())
        assert not any((r.get("trial"), r.get("participant_id")) == ("ALPHA", "003") for r in rows)
    foreign = withdraw(bench, out, GONE, derived=own.parent, code=3)
    assert "not made from a table" in foreign.text
    assert (out / "scans" / "BETA" / "004").is_dir()


def test_the_last_person_may_leave(cohort: Path, bench: Bench) -> None:
    """An output of one scan is empty afterwards, and says why."""
    image = next((cohort.parent / "ALPHA" / "images").glob("004_*_ED.nii"))
    single = bench.top / "one"
    for phase in ("ED", "ES"):
        source = image.with_name(image.name.replace("_ED", f"_{phase}"))
        write(single / "x", "")
        shutil.copy(source, single / f"heart_{phase}.nii")
    (single / "x").unlink()
    bench.run("segment", single, "--out", bench.top / "o", code=(0, 4))
    withdraw(bench, bench.top / "o", ("single", "scan-1"))
    assert not list((bench.top / "o" / "scans").rglob("*.nii.gz"))
    assert "1 participant withdrew" in (bench.top / "o" / "report.html").read_text()


def test_an_unfinished_output_loses_its_tables_until_it_is_whole(
    out: Path, gone_from: Path, cohort: Path, bench: Bench
) -> None:
    """Tables of a run that was stopped still hold the person: they go, and come with the rest."""
    (out / "scans" / "ALPHA" / "003" / "baseline" / "result.json").unlink()
    done = withdraw(bench, out, GONE)
    assert "no tables until" in done.text
    for name in ("measurements.csv", "participants.csv", "report.html", "measurements.parquet"):
        assert not (out / name).exists()
    assert not (out / "scans" / "BETA" / "004").exists()
    bench.run("segment", cohort, "--out", out, code=4)
    but = ("withdrawals.json",)
    assert tree(out, but=but) == tree(gone_from, but=but)


def test_nobody_is_withdrawn_while_a_run_writes(out: Path, bench: Bench) -> None:
    with OutputLock(out):
        refused = withdraw(bench, out, GONE, code=2)
    assert "Another run is writing" in refused.text
    assert (out / "scans" / "BETA" / "004").is_dir()
    assert not (out / "withdrawals.json").exists()
