"""``--pseudonymise``: the key decides who is who in every command, and stays in its file."""

from __future__ import annotations

import csv
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from cardiometa.cohort.pseudonyms import pseudonym
from tests.kit.cohorts import write
from tests.kit.command_runs import Bench
from tests.kit.in_process import segmented_by
from tests.kit.segmented_out import fake_segment, write_cohort
from tests.kit.small_runs import load, save

KEY = "6f1d2b3c4a5e69788796a5b4c3d2e1f00f1e2d3c4b5a69788796a5b4c3d2e1f0"


@pytest.fixture(autouse=True)
def known_labels() -> Iterator[None]:
    """The network's place is taken by that of `segmented_out`."""
    with segmented_by(fake_segment):
        yield


def key_file(folder: Path, text: str = KEY, name: str = "pseudonyms.key") -> Path:
    path = write(folder / "keys" / name, f"{text}\n")
    path.chmod(0o600)
    return path


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cohort whose ids could be anybody's, and its pseudonymised output."""
    top = tmp_path_factory.mktemp("keyed")
    cohort, _ = write_cohort(top, 5)
    with segmented_by(fake_segment):
        bench = Bench(top=top)
        keyed = ("--pseudonymise", key_file(top))
        bench.run("segment", cohort, "--out", top / "seg", *keyed, "--quiet", code=4)
    return top


@pytest.fixture
def bench(made: Path, tmp_path: Path) -> Bench:
    return Bench(top=Path(shutil.copytree(made, tmp_path / "copy")))


def people_of(out: Path) -> set[tuple[str, str]]:
    with (out / "participants.csv").open(newline="") as stream:
        return {(r["trial"], r["participant_id"]) for r in csv.DictReader(stream)}


def test_everybody_is_called_by_the_hash_alone(bench: Bench) -> None:
    out = bench.top / "seg"
    expected = {
        (t, pseudonym(KEY.encode(), t, f"{n:03}")) for t in ("ALPHA", "BETA") for n in range(1, 6)
    }
    assert people_of(out) == expected
    folders = {(p.parent.name, p.name) for p in (out / "scans").glob("*/*")}
    assert folders == expected
    for path in out.rglob("*"):
        if path.is_file() and path.suffix in (".csv", ".json", ".html"):
            text = path.read_text()
            assert KEY not in text
            for number in range(1, 6):
                for trial in ("ALPHA", "BETA"):
                    assert f"{trial}/{number:03}" not in text
                    assert f"{trial},{number:03}," not in text


def test_a_resumed_run_needs_the_same_key(bench: Bench) -> None:
    cohort, out = bench.top / "cohort.toml", bench.top / "seg"
    before = people_of(out)
    keyed = ("--pseudonymise", bench.top / "keys" / "pseudonyms.key")
    again = bench.run("segment", cohort, "--out", out, *keyed, code=4)
    assert "15 already done" in again.text
    other = key_file(bench.top, KEY[::-1], "other.key")
    for wrong in ((), ("--pseudonymise", other)):
        refused = bench.run("segment", cohort, "--out", out, *wrong, code=2)
        assert "other options (pseudonymise)" in refused.text
    assert people_of(out) == before
    assert len(list((out / "scans").glob("*/*"))) == 10


def test_mended_masks_and_a_blind_package_go_by_pseudonym(bench: Bench) -> None:
    cohort, out = bench.top / "cohort.toml", bench.top / "seg"
    keyed = ("--pseudonymise", bench.top / "keys" / "pseudonyms.key")
    who = pseudonym(KEY.encode(), "ALPHA", "004")
    scan = out / "scans" / "ALPHA" / who / "baseline" / "segmentation.nii.gz"
    labels, affine = load(scan)
    labels[0][labels[0] == 3] = 0
    mended = bench.top / "mended"
    save(labels, affine, mended / "ALPHA" / who / "baseline" / "segmentation.nii.gz")
    done = bench.run("segment", cohort, "--out", out, *keyed, "--corrections", mended, code=4)
    assert "1 scan measured on a reader's mask" in done.text
    # A folder by the site's own id fits nobody, and its name is not repeated.
    wrong = bench.top / "wrong"
    save(labels, affine, wrong / "ALPHA" / "004" / "baseline" / "segmentation.nii.gz")
    refused = bench.run("segment", cohort, "--out", out, *keyed, "--corrections", wrong, code=3)
    assert "no such scan" in refused.text
    assert "004" not in refused.text.replace("ARGUMENT", "")
    key = bench.top / "reader" / "key.csv"
    blind = ("--export-for-reading", bench.top / "blind", "--cohort", cohort, "--key", key)
    bench.run("evaluate", out, *blind, *keyed)
    assert bench.run(
        "evaluate", out, *blind[:1], bench.top / "no", *blind[2:-1], bench.top / "k", code=3
    )
    if os.name == "posix":
        assert key.stat().st_mode & 0o077 == 0


def test_withdrawal_by_the_sites_own_id_or_by_pseudonym(bench: Bench) -> None:
    cohort, out = bench.top / "cohort.toml", bench.top / "seg"
    key = bench.top / "keys" / "pseudonyms.key"
    own, other = pseudonym(KEY.encode(), "BETA", "004"), pseudonym(KEY.encode(), "BETA", "005")
    refused = bench.run("withdraw", out, "--participant", "BETA/004", code=3)
    assert "--pseudonymise KEYFILE" in refused.text
    wrong = key_file(bench.top, KEY[::-1], "other.key")
    bench.run("withdraw", out, "--participant", "BETA/004", "--pseudonymise", wrong, code=2)
    bench.run("withdraw", out, "--participant", "BETA/004", "--pseudonymise", key)
    bench.run("withdraw", out, "--participant", f"BETA/{other}")
    left = people_of(out)
    assert not left & {("BETA", own), ("BETA", other)}
    bench.run("segment", cohort, "--out", out, "--pseudonymise", key, code=4)
    assert people_of(out) == left
    # Neither name stands in the list.
    listed = (out / "withdrawals.json").read_text()
    assert not any(word in listed for word in ("BETA", "004", own, other))
    assert len(json.loads(listed)["people"]) == 2


def test_the_key_file_is_kept_apart(bench: Bench) -> None:
    cohort = bench.top / "cohort.toml"
    inside = key_file(bench.top / "new" / "out")
    refused = bench.run(
        "segment", cohort, "--out", bench.top / "new" / "out", "--pseudonymise", inside, code=2
    )
    assert "lies inside" in refused.text
    short = key_file(bench.top, "0123456789", "short.key")
    bench.run("segment", cohort, "--out", bench.top / "s", "--pseudonymise", short, code=2)
    if os.name == "posix":
        open_to_all = key_file(bench.top, KEY, "open.key")
        open_to_all.chmod(0o644)
        dry = ("--dry-run", "--pseudonymise", open_to_all)
        told = bench.run("segment", cohort, "--out", bench.top / "d", *dry)
        assert "chmod 600" in told.text
