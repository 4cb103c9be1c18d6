"""``show``: what an output is; ``--verify`` finds every change and names where it is."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cardiometa.manifest import change_of, file_marks
from tests.kit.command_runs import REPORTED, Bench
from tests.kit.in_process import segmented_by
from tests.kit.segmented_out import fake_segment

SCAN = "scans/ALPHA/005/baseline"


@pytest.fixture(autouse=True)
def known_labels() -> Iterator[None]:
    """The network's place is taken by that of `segmented_out`."""
    with segmented_by(fake_segment):
        yield


@pytest.fixture(scope="module")
def made(two_trials: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Outputs of three commands, and their cohort, in one folder."""
    top = Path(shutil.copytree(two_trials, tmp_path_factory.mktemp("made") / "copy"))
    seg, bench = top / "seg", Bench(top=top)
    ranges = ("--all", "--method", "strata", "--bootstrap", "200", "--use-visit", "baseline")
    few = ("--measure", "lv_edv_ml", "--min-n", "10", "--by", "age", "--age-bands", "18")
    bench.run("reference-ranges", seg, "--out", top / "ranges", *ranges, *few)
    bench.run("evaluate", seg, *REPORTED, "--out", top / "eval", "--bootstrap", "50")
    return top


@pytest.fixture
def bench(made: Path, tmp_path: Path) -> Bench:
    return Bench(top=Path(shutil.copytree(made, tmp_path / "copy")))


def change(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def test_what_an_output_is(bench: Bench) -> None:
    done = bench.run("show", bench.top / "seg")
    for words in ("output of `segment`, complete", "input      ALPHA.scans", "failed 2", "sha256"):
        assert words in done.text, words
    told = json.loads(bench.run("show", bench.top / "ranges", "--json").text)
    assert told["command"] == "reference-ranges"
    assert told["options"]["measures"] == ["lv_edv_ml"]
    assert told["inputs"]["table"]
    assert told["stale"] == ""
    for folder in ("cohort.toml", "labels"):
        assert bench.run("show", bench.top / folder, code=3).text


def test_untouched_outputs_verify(bench: Bench) -> None:
    top = bench.top
    seg = bench.run("show", top / "seg", "--verify", "--cohort", top / "cohort.toml")
    assert "no differences" in seg.text
    assert "18 scans, 16 sources" in seg.text
    for folder in ("ranges", "eval"):
        done = bench.run("show", top / folder, "--verify", "--input", top / "seg")
        assert "no differences" in done.text
        assert "not checked" not in done.text
    # Without its input an output cannot be said to be of it.
    assert "say --input" in bench.run("show", top / "eval", "--verify").text
    assert "say --cohort" in bench.run("show", top / "seg", "--verify").text


def _mask(top: Path) -> None:
    path = top / "seg" / SCAN / "segmentation.nii.gz"
    data = bytearray(path.read_bytes())
    data[-9] ^= 1
    path.write_bytes(data)


def _image(top: Path) -> None:
    path = top / "ALPHA" / "images" / "005_baseline_ED.nii"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def _cell(name: str, column: str, value: str) -> Callable[[Path], None]:
    def spoil(top: Path) -> None:
        path = top / "seg" / name
        lines = path.read_text().splitlines(keepends=True)
        cells = lines[4].split(",")
        cells[lines[0].rstrip().split(",").index(column)] = value
        lines[4] = ",".join(cells)
        path.write_text("".join(lines))

    return spoil


CHANGES: tuple[tuple[Callable[[Path], object], str], ...] = (
    (
        lambda top: shutil.copytree(top / "seg" / SCAN, top / "seg" / "scans/ALPHA/005/again"),
        "scans/ALPHA/005/again: it is in no table of this output",
    ),
    (_mask, f"{SCAN}/segmentation.nii.gz: it is not the file that its result.json names"),
    (_image, "images of ALPHA/005/baseline: they are not those that were segmented"),
    (
        _cell("measurements.csv", "lv_esv_ml", "61.5"),
        "measurements.csv: the first changed byte is one of 2048 to 3071, from line",
    ),
    (
        _cell("participants.csv", "age_years", "99.5"),
        "participants.csv: the first changed byte is one of ",
    ),
    (
        lambda top: change(top / "seg" / "cohort.json", '"white"', '"black"'),
        "cohort.json: the first changed byte is one of ",
    ),
    (
        lambda top: change(top / "seg" / SCAN / "result.json", 'lv_esv_ml": ', 'lv_esv_ml": 1'),
        f"{SCAN}/result.json: it is not the record that the tables were made from",
    ),
    (
        lambda top: change(top / "seg/scans/ALPHA/006/baseline/result.json", "{", "["),
        "scans/ALPHA/006/baseline/result.json: the record is missing or damaged",
    ),
    (
        lambda top: change(top / "seg" / "report.html", "Methods", "Metods"),
        "report.html: the first changed byte is one of ",
    ),
    (lambda top: (top / "seg" / "flow.json").unlink(), "flow.json: the file is missing"),
    (
        lambda top: change(top / "BETA" / "participants.csv", "white", "black"),
        "input BETA.participants: it is not the table that the output was made from",
    ),
    (
        lambda top: change(top / "seg" / "cardiometa.json", '"complete"', '"running"'),
        "the output is not finished (its state is interrupted)",
    ),
)


def test_every_change_is_found_and_placed(bench: Bench) -> None:
    """One alone, then all of them at once."""
    verify = ("show", bench.top / "seg", "--verify", "--cohort", bench.top / "cohort.toml")
    words = [text for _, text in CHANGES]
    for first, last in ((0, 1), (1, len(CHANGES))):
        for spoil, _ in CHANGES[first:last]:
            spoil(bench.top)
        told = bench.run(*verify, code=3).text
        assert [text for text in words if text in told] == words[:last]


def test_every_output_names_the_file_and_the_place(bench: Bench) -> None:
    for name in ("ranges/reference_ranges.csv", "ranges/report.html", "seg/report.html"):
        path = bench.top / name
        data = bytearray(path.read_bytes())
        place = len(data) // 2
        data[place] ^= 1
        path.write_bytes(data)
        done = bench.run("show", path.parent, "--verify", code=3)
        first = place // 1024 * 1024
        assert f"{path.name}: the first changed byte is one of {first} to " in done.text


def test_another_table_makes_an_output_stale(bench: Bench) -> None:
    top = bench.top
    table = top / "seg" / "measurements.csv"
    table.write_bytes(table.read_bytes().replace(b"ALPHA,006", b"ALPHA,906", 1))
    for more in ((), ("--verify",)):
        command = ("show", top / "ranges", "--input", top / "seg", *more)
        assert "compute it again" in bench.run(*command, code=3 if more else 0).text


def test_a_withdrawal_is_seen_in_what_was_computed(bench: Bench) -> None:
    """By the mark; and where an output was elsewhere then, by the list of the output beside it."""
    top = bench.top
    shutil.copytree(top / "ranges", top / "away" / "ranges")
    bench.run("withdraw", top / "seg", "--participant", "ALPHA/004")
    seg = bench.run("show", top / "seg", "--verify", "--cohort", top / "cohort.toml")
    assert "1 participant erased" in seg.text
    shutil.move(top / "away" / "ranges", top / "back")
    for folder in ("ranges", "eval", "back"):
        assert "OUTDATED" in bench.run("show", top / folder).text
        assert "Do not use" in bench.run("show", top / folder, "--verify", code=3).text


def test_the_first_changed_block_is_found(tmp_path: Path) -> None:
    text = bytes(range(256)) * 40
    mark = file_marks({"table": text})["table"]
    path = tmp_path / "table"
    for place in (0, 1, 255, 5000, len(text) - 1):
        other = bytearray(text)
        other[place] ^= 1
        path.write_bytes(other)
        assert f"one of {place // 1024 * 1024} to " in change_of(path, mark)
    path.write_bytes(text[:700])
    assert "one of 0 to 1023, from line 1; it has 700 bytes, not 10240" in change_of(path, mark)
    path.write_bytes(text)
    assert change_of(path, mark) == ""
