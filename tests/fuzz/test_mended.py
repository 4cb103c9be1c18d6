"""What mutated files and broken runs have found, each held here once it was mended."""

from __future__ import annotations

import errno
import json
import os
import signal
import stat
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pyreadstat
import pytest
from typer.testing import CliRunner

from cardiometa import files
from cardiometa.cli import output as console
from cardiometa.cli.main import app, handle_signals
from cardiometa.cohort.load import load_cohort
from cardiometa.cohort.read_table import read_any_table
from cardiometa.cohort.recode import as_numbers
from cardiometa.errors import (
    CohortError,
    ImageError,
    InputError,
    ModelError,
    OutputError,
    TableError,
    UsageError,
)
from cardiometa.files import RECORD_NAME, canonical_json
from cardiometa.imaging.archive import open_files
from cardiometa.imaging.frames import frame_table
from cardiometa.pipeline import result_file as scan_record
from cardiometa.pooling.aggregate_effects import read_summaries
from cardiometa.pooling.federated.site import read_site
from cardiometa.pooling.options import PoolingOptions
from cardiometa.privacy.ledger import read_ledger
from cardiometa.reference.model import reference_model
from cardiometa.segmentation.model import load_model, parse_card
from cardiometa.statistics.meta_range import TrialMoments, mixture_limits
from tests.fuzz import documents
from tests.kit.cohorts import cohort_folder, read_definition
from tests.kit.tiny_dicom import Shape, encode, image, put, read

# ------------------------------------------------------------------ JSON and records


@pytest.mark.parametrize(
    "text",
    ['"\\ud800"', '{"\\udfff": 1}', "1" * 5000, "[" * 100_000, '{"a": 1', "\x00", "", "[NaN]"],
    ids=["half a character", "in a key", "5000 digits", "deep", "cut off", "zero", "empty", "NaN"],
)
def test_json_that_cannot_be_used_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "x.json"
    path.write_text(text)
    with pytest.raises(InputError, match=r"x\.json cannot be read as JSON"):
        files.read_json(path)


@pytest.mark.parametrize("text", ["[]", "null", '{"command": "segment", "options": 3}', "{"])
def test_a_damaged_record_of_an_output_is_not_written_over(tmp_path: Path, text: str) -> None:
    (tmp_path / RECORD_NAME).write_text(text)
    with pytest.raises(UsageError, match=r"is damaged|cannot be read as JSON"):
        files.check_output(tmp_path, command="segment", options={}, overwrite=True)


WHOLE = json.loads(documents.result_seeds()[2])


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("options", "mosteller"),
        ("measures", {"lv_edv_ml": "150"}),
        ("measures", {"lv_edv_ml": {}}),
        ("measures", {"lv_edv_ml": True}),
        ("measures", {"lv_edv_ml": 10**400}),
        ("status", ["ok"]),
        ("status", "fine"),
        ("flags", [{"code": {}, "level": "info", "sentence": "x"}]),
        ("flags", [{"code": "x", "level": "loud", "sentence": "x"}]),
        ("outputs", {"../../../etc/passwd": "0" * 64}),
        ("outputs", {"overlay.png": 3}),
        ("facts", {"vendor": []}),
        ("correction", "x"),
        ("run", {"seconds": "long"}),
        ("key", {"trial": "ALPHA", "participant_id": 1, "visit": "baseline"}),
    ],
)
def test_a_record_that_was_changed_is_done_again(tmp_path: Path, name: str, value: object) -> None:
    place = scan_record.scan_folder(tmp_path, documents.KEY)
    place.mkdir(parents=True)
    (place / "result.json").write_text(json.dumps(WHOLE))
    assert scan_record.read_finished(place, documents.KEY) is not None
    (place / "result.json").write_text(json.dumps({**WHOLE, name: value}))
    assert scan_record.read_finished(place, documents.KEY) is None
    assert scan_record.read_record(tmp_path, documents.KEY) is None


def test_a_scan_that_failed_by_its_correction_is_done_again(tmp_path: Path) -> None:
    flag = {"code": "correction-changed", "level": "reject", "sentence": "x"}
    (tmp_path / "result.json").write_text(json.dumps({**WHOLE, "flags": [flag]}))
    assert scan_record.read_result(tmp_path, documents.KEY) is not None
    assert scan_record.read_finished(tmp_path, documents.KEY) is None


def test_a_sum_changed_on_the_way_from_a_site_is_seen() -> None:
    document = json.loads(documents.site_document())
    assert read_site(document, "site.json").trials
    arm = next(iter(document["trials"][0]["arms"].values()))
    arm["means"][-1] += 0.001
    with pytest.raises(InputError, match="does not have the hash"):
        read_site(document, "site.json")


@pytest.mark.parametrize(
    ("name", "value"), [("segments", 10**9), ("segments", 1e999), ("low", 1e999), ("offset", "x")]
)
def test_a_curve_that_no_program_wrote_is_refused(name: str, value: object) -> None:
    """A billion knots would take all memory when the first person is scored."""
    document = json.loads(documents.reference_document())
    assert reference_model(document, "ref.json").measures
    document["curves"][0]["functions"][0][name] = value
    with pytest.raises(InputError, match="cannot be used"):
        reference_model(document, "ref.json")


@pytest.mark.parametrize("sets", [{"A|control": 3.5}, {"A|control": [1]}, ["x"], None])
def test_a_damaged_ledger_is_refused(tmp_path: Path, sets: object) -> None:
    document = json.loads(documents.ledger_seeds()[0])
    document["summaries"][0]["sets"] = sets
    path = tmp_path / "ledger.json"
    path.write_text(json.dumps(document))
    with pytest.raises(InputError, match="is not a ledger, or is damaged"):
        read_ledger(path)


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ("widths", [[16], 24]),
        ("widths", ["male"]),
        ("widths", [10**9]),
        ("widths", []),
        ("rv_vendors", True),
        ("rv_vendors", [3]),
        ("spacing_mm", 10**400),
        ("spacing_mm", 1e999),
        ("views", [2]),
        ("quality", {"kind": "rising-logistic", "weights": True, "intercept": 0, "clip": 0.1}),
        ("quality", {"kind": "rising-logistic", "weights": {"a": 10**400}, "intercept": 0}),
    ],
)
def test_a_card_of_other_kinds_is_refused(place: str, value: object) -> None:
    document = json.loads(json.dumps(load_model().card.document))
    parse_card(document)
    (document["network"] if place == "widths" else document)[place] = value
    with pytest.raises(ModelError):
        parse_card(document)


# ------------------------------------------------------------------ tables and TOML


@pytest.mark.parametrize("cell", ["x" * 300, "a/" * 3000, "a\udcff"])
def test_image_paths_that_no_system_can_have_are_a_problem(tmp_path: Path, cell: str) -> None:
    toml = cohort_folder(tmp_path, count=3)
    scans = tmp_path / "ALPHA" / "scans.csv"
    rows = scans.read_text().splitlines()
    first = rows[1].split(",")
    rows[1] = ",".join([*first[:-1], cell.encode("utf-8", "replace").decode()])
    scans.write_text("\n".join(rows) + "\n")
    with pytest.raises(CohortError) as caught:
        load_cohort(toml)
    assert any("row 2" in problem.where for problem in caught.value.problems)


@pytest.mark.parametrize("line", ['participants = "{}"', 'scans = "{}"', 'root = "{}"'])
@pytest.mark.parametrize("value", ["x" * 300, "a\\u0000b"])
def test_paths_of_a_toml_that_no_system_can_have_are_a_problem(
    tmp_path: Path, line: str, value: str
) -> None:
    toml = cohort_folder(tmp_path, count=3, trials=("ALPHA",))
    name = line.partition(" ")[0]
    kept = [x for x in toml.read_text().splitlines() if not x.startswith(name)]
    toml.write_text("\n".join([*kept, line.format(value), ""]))
    with pytest.raises(CohortError) as caught:
        load_cohort(toml)
    assert caught.value.problems


@pytest.mark.parametrize("value", ["9" * 5000, "[" * 5000 + "]" * 5000, "{a=" * 3000])
def test_toml_of_endless_numbers_and_brackets_is_no_toml(tmp_path: Path, value: str) -> None:
    path = tmp_path / "cohort.toml"
    path.write_text(f'name = "x"\nn = {value}\n')
    with pytest.raises(CohortError) as caught:
        read_definition(path)
    assert any("cannot be read as TOML" in problem.what for problem in caught.value.problems)
    table = tmp_path / "t.csv"
    table.write_text("lv_edv_ml\n1\n")
    words = ["reference-ranges", str(table), "--out", str(tmp_path / "o"), "--config", str(path)]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 2
    assert "cannot be read as TOML" in done.output


@pytest.mark.parametrize(
    "text", ['a,b\n1,2\n3,"4\n', '"a,b\n1,2\n', "a,b\n" + "x" * 200_000 + ',"1"\n']
)
def test_quotes_left_open_and_endless_cells_are_no_table(tmp_path: Path, text: str) -> None:
    path = tmp_path / "t.csv"
    path.write_text(text)
    with pytest.raises(TableError):
        read_any_table(path)


def test_a_table_that_claims_more_than_memory_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def greedy(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr(pyreadstat, "read_dta", greedy)
    path = tmp_path / "t.dta"
    path.write_bytes(b"x")
    with pytest.raises(TableError, match="claims more cells"):
        read_any_table(path)


@pytest.mark.parametrize("header", ["trial,estimate,se", "trial,estimate,ci_low,ci_high"])
def test_a_table_of_effects_without_rows_is_refused(header: str) -> None:
    rows = pd.DataFrame(columns=header.split(","))
    with pytest.raises(TableError, match="no rows"):
        read_summaries(rows, PoolingOptions(effect="odds-ratio"), name="effects.csv")


def test_a_pipe_is_no_table(tmp_path: Path) -> None:
    """Reading one would wait for ever."""
    path = tmp_path / "t.csv"
    os.mkfifo(path)
    with pytest.raises(TableError, match="not a regular file"):
        read_any_table(path)


@pytest.mark.parametrize("cell", ["1e101", "-1e308", "1e999"])
def test_numbers_that_no_measure_has_are_none(cell: str) -> None:
    for values in (pd.Series(["5", cell]), pd.Series([5.0, float(cell)])):
        numbers, bad = as_numbers(values)
        assert list(bad) == [False, True]
        assert np.isnan(numbers[1])


def test_limits_of_people_who_hardly_differ() -> None:
    trials = TrialMoments(
        mean=np.array([160.0, 165.0]), sd=np.array([1e-300, 1e-300]), n=np.array([60.0, 80.0])
    )
    found = mixture_limits(trials, np.array([2.5, 97.5]))
    assert found == pytest.approx([160.0, 165.0])


# ------------------------------------------------------------------ DICOM headers


def _with(data: bytes, tag: bytes, vr: bytes, value: bytes) -> bytes:
    """The file with one element put in before Modality, in another representation."""
    place = data.find(b"\x08\x00\x60\x00CS")
    return data[:place] + tag + vr + len(value).to_bytes(2, "little") + value + data[place:]


@pytest.mark.parametrize("vr", [b"US", b"LO", b"DS", b"UI", b"FD"])
@pytest.mark.parametrize("tag", [0x00209113, 0x52009229, 0x52009230, 0x00189118])
def test_a_sequence_of_another_representation_is_none(tmp_path: Path, vr: bytes, tag: int) -> None:
    head = (tag >> 16).to_bytes(2, "little") + (tag & 0xFFFF).to_bytes(2, "little")
    data = _with(encode(image(0, 0, Shape())), head, vr, b"1\\2\\3\\4 ")
    _headers_of(put(tmp_path, {"a": data}) / "a")


@pytest.mark.parametrize("date", ["²0000101", "٢٠٢٠٠١٠١", "2020.1.1"])
def test_odd_digits_of_a_date_are_no_date(tmp_path: Path, date: str) -> None:
    ds = image(0, 0, Shape())
    ds.SpecificCharacterSet = "ISO_IR 192"
    data = encode(ds).replace(b"20200101", date.encode()[:8].ljust(8))
    _headers_of(put(tmp_path, {"a": data}) / "a")


def test_an_unknown_representation_is_a_missing_value(tmp_path: Path) -> None:
    data = encode(image(0, 0, Shape()))
    for keyword in (b"\x20\x00\x13\x00", b"\x18\x00\x60\x10", b"\x28\x00\x30\x00"):
        place = data.find(keyword)
        assert place > 0
        changed = data[: place + 4] + b"U\x00" + data[place + 6 :]
        _headers_of(put(tmp_path, {"a": changed}) / "a")


def _headers_of(path: Path) -> None:
    with open_files(path) as found:
        frame_table(found)
    with pytest.raises(ImageError):
        read(path)


# ------------------------------------------------------------------ NIfTI headers


@pytest.mark.parametrize(
    "affine",
    [
        [[1.5, 0, 10], [0, 1.5, 0], [0, 0, 1e-9]],  # slices within the plane
        [[1.5, 1.0, 0], [0, 1.2, 0], [0, 0, 10]],  # a skewed image
        [[1.5, 0, 9], [0, 1.5, 0], [0, 0, 4]],  # slices that lean by 66 degrees
        [[0, 0, 0], [0, 0, 0], [0, 0, 0]],
    ],
    ids=["flat", "skewed", "leaning", "nothing"],
)
def test_axes_that_are_no_stack_are_refused(tmp_path: Path, affine: list) -> None:
    """The first gave slices 1e-8 mm apart: volumes of nothing, and no word of it."""
    header = nib.Nifti1Header()
    header.set_data_shape((12, 10, 6, 12))
    header.set_data_dtype(np.int16)
    header["pixdim"][1:5] = (1.5, 1.5, 10.0, 40.0)
    header["vox_offset"], header["magic"], header["sform_code"] = 352, b"n+1", 1
    for row, name in zip(affine, ("srow_x", "srow_y", "srow_z"), strict=True):
        header[name][:3] = row
    path = tmp_path / "cine.nii"
    path.write_bytes(header.binaryblock + bytes(4 + 12 * 10 * 6 * 12 * 2))
    with pytest.raises(ImageError) as caught:
        read(path)
    assert caught.value.code == "no-orientation"


# ------------------------------------------------------------------ writing


def test_an_output_between_two_renames_says_so_and_resumes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise a reader takes old and new files for one output."""
    out = tmp_path / "out"
    record = canonical_json({"command": "x", "options": {}, "run": {"seconds": 1}})
    new = {"a.csv": "new", "b.csv": "new", RECORD_NAME: record}
    files.write_all(out, {"a.csv": "old", "b.csv": "old", "c.csv": "old", RECORD_NAME: record})
    replace = os.replace

    def failing(source: Path, target: Path) -> None:
        if Path(target).name == "b.csv":
            raise OSError(errno.EIO, "Input/output error")
        replace(source, target)

    monkeypatch.setattr(os, "replace", failing)
    with pytest.raises(OutputError, match=r"b\.csv cannot be written: input/output error"):
        files.write_all(out, new, old=("c.csv",))
    assert json.loads((out / RECORD_NAME).read_text())["run"] == files.WRITING
    monkeypatch.setattr(os, "replace", replace)
    files.check_output(out, command="x", options={}, overwrite=False)
    files.write_all(out, new, old=("c.csv",))
    assert (out / RECORD_NAME).read_text() == record
    assert sorted(p.name for p in out.iterdir()) == ["a.csv", "b.csv", RECORD_NAME]


def test_a_full_disk_leaves_the_old_output_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also what was to be removed: nothing goes before all that is new is on disk."""
    contents = {"a.csv": "old", "result.json": "old"}
    files.write_all(tmp_path, contents)
    write, calls = os.write, []

    def filling(descriptor: int, data: bytes) -> int:
        calls.append(descriptor)
        if len(calls) > 1:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(descriptor, data)

    monkeypatch.setattr(os, "write", filling)
    with pytest.raises(OutputError, match="no space left on device"):
        files.write_all(tmp_path, {"a.csv": "new", "result.json": "new"}, old=("result.json",))
    assert {p.name: p.read_text() for p in tmp_path.iterdir()} == contents


def test_a_write_cut_short_by_the_system_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = os.write
    monkeypatch.setattr(os, "write", lambda d, data: write(d, bytes(data)[:7]))
    files.write_bytes(tmp_path / "x", bytes(range(100)))
    assert (tmp_path / "x").read_bytes() == bytes(range(100))


def test_what_a_killed_run_left_does_not_stand_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "figures").mkdir()
    for name in (".a.csv.0123abcd.tmp", "figures/.f.svg.ffffffff.tmp"):
        (tmp_path / name).write_text("half")
    files.check_output(tmp_path, command="x", options={}, overwrite=False)
    (tmp_path / ".notes.tmp").write_text("a person's own")
    with pytest.raises(UsageError, match="other files"):
        files.check_output(tmp_path, command="x", options={}, overwrite=False)
    files.remove_leftovers(tmp_path)
    assert [p.name for p in tmp_path.rglob("*") if p.is_file()] == [".notes.tmp"]


def test_a_folder_that_cannot_be_synced_is_no_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some network file systems have no such call; a disk that fails still is one."""
    fsync = os.fsync

    def failing(code: int):
        def call(descriptor: int) -> None:
            if stat.S_ISDIR(os.fstat(descriptor).st_mode):
                raise OSError(code, os.strerror(code))
            fsync(descriptor)

        return call

    monkeypatch.setattr(os, "fsync", failing(errno.EINVAL))
    files.write_text(tmp_path / "x", "text")
    monkeypatch.setattr(os, "fsync", failing(errno.EIO))
    with pytest.raises(OutputError):
        files.write_text(tmp_path / "y", "text")


# ------------------------------------------------------------------ signals


@pytest.fixture
def own_signals() -> Iterator[None]:
    names = ("SIGINT", "SIGTERM", "SIGHUP")
    before = {n: signal.getsignal(getattr(signal, n)) for n in names if hasattr(signal, n)}
    yield
    for name, handler in before.items():
        signal.signal(getattr(signal, name), handler)


@pytest.mark.usefixtures("own_signals")
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_every_signal_to_stop_ends_in_130(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    if not hasattr(signal, name):
        pytest.skip("no such signal here")
    # Whatever the caller of the tests ignores, as nohup does.
    signal.signal(getattr(signal, name), signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)

    def struck() -> None:
        with handle_signals():
            os.kill(os.getpid(), getattr(signal, name))
            time.sleep(5)

    with pytest.raises(SystemExit) as caught:
        struck()
    assert caught.value.code == 130
    assert "Finished work is kept" in capsys.readouterr().err


@pytest.mark.usefixtures("own_signals")
def test_a_signal_that_the_caller_ignores_stays_ignored() -> None:
    """`nohup` and a shell's background jobs ask for it."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with handle_signals():
        os.kill(os.getpid(), signal.SIGHUP)


@pytest.mark.usefixtures("own_signals")
def test_a_library_that_swallows_the_signal_still_ends_in_130() -> None:
    def struck() -> None:
        with handle_signals():
            try:
                os.kill(os.getpid(), signal.SIGTERM)
                time.sleep(5)
            except KeyboardInterrupt:
                sys.exit(1)

    with pytest.raises(SystemExit) as caught:
        struck()
    assert caught.value.code == 130


# ------------------------------------------------------------------ the console


def test_messages_cannot_steer_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    console.say("column \x1b[2J\x07 'a\u202eb' \ud800\n\tnext")
    said = capsys.readouterr().err
    assert said == "column \\x1b[2J\\x07 'a\\u202eb' \\ud800\n\tnext\n"


def test_a_full_stdout_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full")
    with Path("/dev/full").open("w", encoding="utf-8") as full:
        monkeypatch.setattr("sys.stdout", full)
        with pytest.raises(OutputError, match="cannot be printed: no space left"):
            console.show_json({"a": 1})
        console.show_text("the rest goes nowhere")


def test_json_for_a_terminal_of_few_letters_stays_json(tmp_path: Path, monkeypatch) -> None:
    path = tmp_path / "out"
    with path.open("w", encoding="ascii") as plain:
        monkeypatch.setattr("sys.stdout", plain)
        console.show_json({"a": "Größe"})
        monkeypatch.undo()
    assert json.loads(path.read_text()) == {"a": "Größe"}


def test_a_folder_of_undecodable_letters_is_a_cohort(tmp_path: Path) -> None:
    top = tmp_path / os.fsdecode(b"caf\xe9")
    try:
        (top / "ALPHA" / "P1" / "baseline").mkdir(parents=True)
    except OSError:
        pytest.skip("this file system has no such names")
    (top / "ALPHA" / "P1" / "baseline" / "notes.txt").write_text("x")
    assert load_cohort(top).name == "caf?"
