"""No name, birth date, number, institution or UID of a source reaches an output or print-out."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import pytest

from cardiometa.phantom.image import PhantomCine
from tests.kit.cohorts import write
from tests.kit.command_runs import REPORTED, Bench
from tests.kit.identities import SECRETS, leaks_below
from tests.privacy.conftest import PERSON_FOLDER, stuffed_dicom, stuffed_nifti

KEY = "3b1f0c9a7d5e2468ace013579bdf02461a2b3c4d5e6f70819293a4b5c6d7e8f9"


@pytest.fixture
def seg(stuffed: Path, bench: Bench) -> Path:
    out = bench.top / "seg"
    bench.run("segment", stuffed, "--out", out, "--dicom-seg", "--workers", "1", code=4)
    return out


def test_every_command(stuffed: Path, bench: Bench, seg: Path) -> None:
    top = bench.top
    bench.run("init", stuffed.parent)
    bench.run("check", stuffed, code=(0, 3))
    bench.run("check", stuffed, "--json", code=(0, 3))
    log = ("--log-file", top / "run.log")
    bench.run("segment", stuffed, "--out", seg, "--dicom-seg", "--json", *log, code=4)
    bench.run("segment", stuffed, "--out", seg, "--dry-run", code=(0, 2))
    ranges = (
        "reference-ranges",
        seg,
        "--min-n",
        "10",
        "--min-cell",
        "2",
        "--bootstrap",
        "200",
        "--all",
        "--method",
        "strata",
    )
    bench.run(*ranges, "--out", top / "ranges")
    bench.run(*ranges, "--out", top / "ranges-internal", "--internal", "--json")
    pool = ("pool-trials", seg, "--outcome", "lv_ef_percent", "--by", "sex")
    bench.run(*pool, "--out", top / "pool", code=(0, 5))
    reference = top / "ranges" / "reference_ranges.json"
    bench.run("score", reference, seg, "--out", top / "scored.csv", code=(0, 3))
    healthy = ("--healthy-rule", "volunteers", "--use-visit", "baseline")
    bench.run("adapt", reference, seg, "--out", top / "adapted.json", *healthy, code=(0, 3))
    bench.run(
        "summarise", seg, "--outcome", "lv_ef_percent", "--out", top / "site.json", code=(0, 5)
    )
    bench.run("evaluate", seg, *REPORTED, "--out", top / "eval", "--bootstrap", "200")
    blind = ("--cohort", stuffed, "--key", top / "key.csv")
    bench.run("evaluate", seg, "--export-for-reading", top / "blind", *blind)
    bench.run(
        "evaluate",
        seg,
        "--import-reading",
        top / "blind",
        "--key",
        top / "key.csv",
        "--out",
        top / "home",
    )
    bench.run("model", "show")
    bench.run("doctor", code=(0, 1))
    assert len(list(seg.rglob("*.seg.dcm"))) >= 10
    assert leaks_below(top) == []
    assert bench.leaks() == []


def test_the_search_finds_what_is_kept_on_purpose(phantom: PhantomCine, bench: Bench) -> None:
    """A control: with --dicom-identity keep the person is in the objects, and is found there."""
    images, out = bench.top / "images", bench.top / "seg"
    stuffed_dicom(phantom, images)
    keep = ("--dicom-seg", "--dicom-identity", "keep")
    bench.run("segment", images, "--out", out, *keep, "--workers", "1", code=(0, 4))
    found = "\n".join(leaks_below(out))
    for who in ("surname", "given", "birth", "patient_id", "accession", "study_uid", "image_uid"):
        assert f": {who} as" in found, who
    # And nowhere else.
    for path in out.rglob("*.dcm"):
        path.unlink()
    assert leaks_below(out) == []
    assert bench.leaks() == []


def test_one_scan_and_folders_named_after_people(phantom: PhantomCine, bench: Bench) -> None:
    """A scan alone keeps no name of its folder; a tree of named folders needs --pseudonymise."""
    single, tree = bench.top / "in" / PERSON_FOLDER, bench.top / "tree"
    stuffed_dicom(phantom, single)
    image = bench.top / "in" / f"{PERSON_FOLDER}.nii.gz"
    archive = shutil.make_archive(str(bench.top / "in" / SECRETS["surname"]), "zip", single)
    stuffed_nifti(phantom, image)
    out = bench.top / "out"
    for number, source in enumerate(
        (single, archive, bench.top / "in" / f"{PERSON_FOLDER}.nii.gz")
    ):
        bench.run("segment", source, "--out", out / str(number), "--workers", "1", code=(0, 4))
        bench.run("check", source, code=(0, 3))
    person = f"{SECRETS['given']}_{SECRETS['surname']}"
    shutil.copytree(single, tree / "ALPHA" / person / "baseline")
    shutil.copytree(single, tree / "ALPHA" / SECRETS["patient_id"] / "baseline")
    for command in (("check", tree), ("segment", tree, "--out", out / "tree")):
        refused = bench.run(*command, code=3)
        assert "the patient's name, id or birth date" in refused.text
    assert not (out / "tree").exists()
    key = write(bench.top / "key" / "pseudonyms.key", KEY)
    keyed = ("--pseudonymise", key)
    copied = bench.run("check", tree, *keyed, code=3)
    assert "these 2 participants have the same images" in copied.text
    bench.run("segment", tree, "--out", out / "tree", *keyed, "--workers", "1", code=(0, 4))
    bench.run("segment", tree, "--out", out / "tree", *keyed, "--json", code=(0, 4))
    assert len(list((out / "tree" / "scans" / "ALPHA").iterdir())) == 2
    assert leaks_below(out) == []
    assert bench.leaks() == []
    # The key is nowhere but in its own file.
    for path in out.rglob("*"):
        assert not path.is_file() or KEY.encode() not in path.read_bytes()
    assert not any(KEY in text for text in bench.printed.values())


def test_errors_tell_nobody(stuffed: Path, phantom: PhantomCine, bench: Bench) -> None:
    """Whatever is wrong with tables, paths and masks, the message names rows and not people."""
    top = bench.top
    site = shutil.copytree(stuffed.parent, top / "site", symlinks=True)
    scans = site / "ALPHA" / "scans.csv"
    rows = [line.split(",") for line in scans.read_text().splitlines()]

    def spoiled(change: str) -> Path:
        changed = [list(row) for row in rows]
        if change == "missing":
            changed[1][2] = changed[2][2] = f"{PERSON_FOLDER}/gone"
        elif change == "all missing":
            for row in changed[1:]:
                row[2] = f"{PERSON_FOLDER}/{row[2]}"
        elif change == "same":
            changed[1][2] = changed[2][2]
        elif change == "unknown":
            changed[1][0] = "999"
        with scans.open("w", newline="") as stream:
            csv.writer(stream, lineterminator="\n").writerows(changed)
        return site / "cohort.toml"

    for change in ("missing", "all missing", "same", "unknown"):
        cohort = spoiled(change)
        bench.run("check", cohort, "--json", code=3)
        bench.run("segment", cohort, "--out", top / "out", code=3)
    # Masks of a reader under names, and tables with people in further columns.
    masks = top / "masks" / f"{SECRETS['surname']}" / SECRETS["given"]
    write(masks / "segmentation.nii.gz", SECRETS["note"])
    good = spoiled("none")
    bench.run("segment", good, "--out", top / "out", "--corrections", top / "masks", code=(2, 3))
    lines = ["trial,participant_id,arm,lv_ef_percent,name,born"]
    for n in range(60):
        value, arm = "high" if n == 7 else str(55 + n % 9), ("control", "active")[n % 4 // 2]
        lines.append(f"T{n % 2},{n},{arm},{value},{SECRETS['surname']},1952-02-29")
    own = write(top / "own.csv", "\n".join(lines) + "\n")
    bench.run("pool-trials", own, "--outcome", "lv_ef_percent", "--out", top / "p", code=3)
    bench.run("reference-ranges", own, "--all", "--out", top / "r", code=3)
    bench.run("evaluate", top / "site", "--against", "reported", "--out", top / "e", code=(2, 3))
    written = [hit for name in ("out", "p", "r", "e") for hit in leaks_below(top / name)]
    assert written == []
    assert bench.leaks() == []
