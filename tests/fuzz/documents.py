"""Readers of TOML and JSON: cohorts, plans, sites' files, references, records, cards, ledgers."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np

from cardiometa.cohort.load import draft_cohort
from cardiometa.cohort.models import CohortOptions
from cardiometa.cohort.pseudonyms import read_key
from cardiometa.errors import CohortError, InputError
from cardiometa.files import RECORD_NAME, canonical_json, check_output, read_json
from cardiometa.records import ScanKey
from tests.fuzz.mutate import of_bytes, of_json, of_toml
from tests.fuzz.target import Target
from tests.kit.cohorts import cohort_folder, read_definition, trial_toml

# ------------------------------------------------------------------ TOML

_COLUMNS = """
papillary = "blood-pool"
carry = ["nyha_class"]
healthy_rule = "no CVD; BMI < 30"
n_sought = 120

[trials.ALPHA.columns]
participant_id = "participant_id"
age_years = "age_years"
sex = { column = "sex", map = { M = "male", F = "female", 9 = "NA" } }
height_cm = { column = "height_cm", unit = "cm" }
arm = { column = "arm", map = { control = "control", active = "active" } }

[[not_obtained]]
trial = "OMEGA"
n_participants = 210
reason = "no reply"
"""


def cohort_seeds() -> list[bytes]:
    text = 'name = "test cohort"\n' + trial_toml("ALPHA") + _COLUMNS
    return [text.encode(), ('name = "two"\n' + trial_toml("ALPHA") + trial_toml("BETA")).encode()]


@cache
def _cohort(folder: Path) -> Path:
    toml = cohort_folder(folder / "cohort", count=4)
    for trial in ("ALPHA", "BETA"):
        path = toml.parent / trial / "participants.csv"
        lines = path.read_text().splitlines()
        path.write_text("\n".join([f"{lines[0]},nyha_class", *(f"{x},II" for x in lines[1:]), ""]))
    return toml


def read_cohort_toml(data: bytes, folder: Path) -> None:
    toml = _cohort(folder)
    toml.write_bytes(data)
    draft = draft_cohort(toml, CohortOptions())
    if draft.problems or draft.cohort is None:
        raise CohortError("The cohort cannot be used.", problems=draft.problems)
    assert draft.cohort.trials


def read_toml(data: bytes, folder: Path) -> None:
    path = folder / "cohort.toml"
    path.write_bytes(data)
    read_definition(path)


def plan_seeds() -> list[bytes]:
    text = (
        'measure = ["lv_edv_ml"]\nby = ["sex", "age"]\nmin-n = 40\nall = true\nlevel = 95.0\n'
        '[columns]\nage_years = "AGE"\nsex = { column = "SEX", map = { M = "male" } }\n'
        '[prespecified]\nmodifiers = ["sex"]\n'
    )
    return [text.encode()]


def read_plan(data: bytes, folder: Path) -> None:
    """A plan given to a command whose table has no rows: the plan is what can go wrong."""
    from typer.testing import CliRunner

    from cardiometa.cli.main import app

    plan, table = folder / "plan.toml", folder / "empty.csv"
    plan.write_bytes(data)
    table.write_text("trial,AGE,SEX,lv_edv_ml\n")
    words = ["reference-ranges", str(table), "--out", str(folder / "out"), "--config", str(plan)]
    done = CliRunner().invoke(app, words)
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code in (2, 3), f"exit {done.exit_code}: {done.output[-300:]}"
    assert done.output.strip()
    raise InputError(done.output)


# ------------------------------------------------------------------ JSON


@cache
def site_document() -> bytes:
    import tempfile

    from typer.testing import CliRunner

    from cardiometa.cli.main import app
    from tests.kit.pooling_tables import simulate_wide

    with tempfile.TemporaryDirectory() as folder:
        rows, out = Path(folder, "rows.csv"), Path(folder, "site.json")
        wide = simulate_wide(2, people=60)
        wide["sex"] = np.where(wide.index % 2 == 0, "male", "female")
        wide.to_csv(rows, index=False)
        words = ["summarise", str(rows), "--outcome", "lv_ef_percent", "--out", str(out)]
        words += ["--baseline", "lv_ef_baseline", "--by", "sex"]
        done = CliRunner().invoke(app, words)
        assert done.exit_code == 0, done.output
        return out.read_bytes()


def of_site(rng, data: bytes) -> bytes:
    """A site's file changed, half of them by somebody who knows how to make its hashes right."""
    changed = of_json(rng, data)
    if rng.random() < 0.5:
        return changed
    from cardiometa.files import sha256_bytes
    from cardiometa.pooling.federated.site import _content_sha256

    try:
        document = json.loads(changed)
        model = canonical_json([document["model"], document["covariates"]])
        document["model_sha256"] = sha256_bytes(model.encode())
        document["content_sha256"] = _content_sha256(document)
    except (ValueError, TypeError, KeyError, RecursionError):
        return changed
    return json.dumps(document).encode("utf-8", errors="surrogatepass")


def read_site_file(data: bytes, folder: Path) -> None:
    from cardiometa.pooling.federated.pool import pool_sites
    from cardiometa.pooling.federated.site import read_site
    from cardiometa.pooling.options import PoolingOptions

    path = folder / "site.json"
    path.write_bytes(data)
    result = pool_sites([read_site(read_json(path), path.name)], PoolingOptions())
    for row in result.effects:
        assert row.estimate is None or np.isfinite(row.estimate)


@cache
def reference_document() -> bytes:
    from cardiometa.reference.options import ReferenceOptions
    from cardiometa.reference.ranges import reference_ranges
    from tests.kit.reference_tables import people_frame, table

    options = ReferenceOptions(measures=("lv_edv_ml",), bootstrap=200)
    return canonical_json(reference_ranges(table(people_frame(600)), options).model).encode()


def read_reference_file(data: bytes, folder: Path) -> None:
    from cardiometa.reference.adapt import adapt_reference
    from cardiometa.reference.model import NewParticipants, reference_model, score_participants
    from cardiometa.reference.options import ScoreOptions

    path = folder / "reference_ranges.json"
    path.write_bytes(data)
    model = reference_model(read_json(path), path.name)
    people = NewParticipants(
        sex=np.array(["male", "female", ""], dtype=object),
        ethnicity=np.array(["white", "", "black"], dtype=object),
        age_years=np.array([50.0, np.nan, 30.0]),
        conventions={},
    )
    for measure in model.measures:
        values = np.array([150.0, 120.0, np.nan])
        scores = score_participants(model, measure, values, people, ScoreOptions())
        assert not np.isinf(scores.z).any(), "an infinite score"
        known = scores.centile[~np.isnan(scores.centile)]
        assert ((known >= 0) & (known <= 100)).all(), "a centile beyond 0 to 100"
    controls = replace(
        people,
        sex=np.repeat(people.sex[:2], 15),
        ethnicity=np.repeat(people.ethnicity[:2], 15),
        age_years=np.linspace(20.0, 75.0, 30),
    )
    values = dict.fromkeys(model.measures, np.linspace(100.0, 200.0, 30))
    adapted, found, _ = adapt_reference(
        read_json(path), "ref", controls, values, same_conventions=True, by_name=False, site="SITE"
    )
    assert all(np.isfinite([one.location, one.miscalibration]).all() for one in found)
    reference_model(json.loads(canonical_json(adapted)), "adapted")


KEY = ScanKey(trial="ALPHA", participant="P001", visit="baseline")


def result_seeds() -> list[bytes]:
    from cardiometa.pipeline.jobs import ScanFailure
    from cardiometa.pipeline.result_file import failed_document

    failure = ScanFailure(code="no-images", sentence="None.")
    document = failed_document(KEY, {"model_sha256": "ab"}, failure)
    whole = {
        **document,
        "status": "ok",
        "flags": [{"code": "few-phases", "level": "info", "sentence": "Few."}],
        "facts": {"vendor": "GE", "field_strength_t": 1.5, "sequence": "bssfp"},
        "measures": {"lv_edv_ml": 150.0, "frames": 20},
        "model": {"id": "m", "sha256": "ab"},
        "outputs": {"segmentation.nii.gz": "0" * 64, "overlay.png": "1" * 64},
        "run": {"seconds": 3.0, "stages": {"read": 0.5}},
    }
    plain = {**whole, "outputs": {}}
    corrected = {**plain, "options": {"model_sha256": "ab", "correction_sha256": "cd"}}
    corrected |= {"correction": {"sha256": "cd"}}
    return [json.dumps(d).encode() for d in (document, whole, plain, corrected)]


def read_result(data: bytes, folder: Path) -> None:
    """A scan's record in an output that is resumed: whole, or the scan is done again."""
    from cardiometa.pipeline import result_file as scan_record

    out = folder / "out"
    place = scan_record.scan_folder(out, KEY)
    place.mkdir(parents=True, exist_ok=True)
    (place / "result.json").write_bytes(data)
    found = scan_record.read_finished(place, KEY)
    assert found is None or found.key == KEY
    scan_record.is_corrected(out, KEY)
    scan_record.read_record(out, KEY)
    scan_record.edited_in_output(out, KEY)
    if found is not None:
        from cardiometa.pipeline.merge import with_cohort_flags

        with_cohort_flags([found, found])


def record_seeds() -> list[bytes]:
    record = {"command": "segment", "options": {"bsa": "mosteller", "cohort": "x"}, "run": {}}
    return [json.dumps(record).encode()]


def read_record(data: bytes, folder: Path) -> None:
    out = folder / "record"
    out.mkdir(exist_ok=True)
    (out / RECORD_NAME).write_bytes(data)
    options = {"bsa": "mosteller", "cohort": "x"}
    check_output(out, command="segment", options=options, overwrite=False)
    check_output(out, command="segment", options={}, overwrite=True)


@cache
def snapshot_document() -> bytes:
    import tempfile

    from cardiometa.pipeline.cohort_snapshot import snapshot_text
    from cardiometa.segmentation.model import load_model

    with tempfile.TemporaryDirectory() as folder:
        cohort = draft_cohort(cohort_folder(Path(folder), count=3), CohortOptions()).cohort
    assert cohort is not None
    return snapshot_text(cohort, load_model().card, "0" * 64).encode()


def read_cohort_json(data: bytes, folder: Path) -> None:
    """The cohort that an output keeps, for `gather`, `withdraw` and `show`."""
    from cardiometa.pipeline.cohort_snapshot import SNAPSHOT_NAME, read_snapshot

    (folder / SNAPSHOT_NAME).write_bytes(data)
    snapshot = read_snapshot(folder)
    assert len(snapshot.cohort.scans) < 100


def read_rules(data: bytes, folder: Path) -> None:
    from cardiometa.cohort.segment_output import SegmentOutput

    (folder / "measurements.json").write_bytes(data)
    (folder / "measurements.csv").touch()
    assert isinstance(SegmentOutput.of([folder]).healthy_rule, str)


def rules_seeds() -> list[bytes]:
    trials = {"A": {"healthy_rule": "no CVD", "randomised": False}, "B": {"healthy_rule": None}}
    return [json.dumps({"columns": {}, "rows": 3, "trials": trials}).encode()]


def read_ledger(data: bytes, folder: Path) -> None:
    from cardiometa.privacy import ledger

    path = folder / "ledger.json"
    path.write_bytes(data)
    entries = {"A|control": ["aa", "bb"]}
    earlier = [item["sets"] for item in ledger.read_ledger(path)["summaries"]]
    ledger.check_ledger(entries, earlier, 10)


def ledger_seeds() -> list[bytes]:
    summary = {"sha256": "0" * 64, "sets": {"A|control": ["aa", "bb"], "A|active": ["cc"]}}
    from cardiometa.privacy.ledger import _KIND

    document = {"kind": _KIND, "key": "00" * 32, "summaries": [summary]}
    return [json.dumps(document).encode()]


def read_key_file(data: bytes, folder: Path) -> None:
    path = folder / "key"
    path.write_bytes(data)
    assert len(read_key(path)) >= 16


# ------------------------------------------------------------------ a model file


@cache
def model_seeds() -> tuple[bytes, ...]:
    from cardiometa.segmentation.model import load_model, model_bytes

    document = {k: v for k, v in load_model().card.document.items() if k != "tensors_sha256"}
    return (
        model_bytes({"a": np.zeros(4, np.float32), "b": np.ones((2, 3), np.float32)}, document),
    )


def of_model(rng, data: bytes) -> bytes:
    """The card inside the header changed, lengths put right; or plain bytes."""
    if rng.random() < 0.3:
        return of_bytes(rng, data)
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    if rng.random() < 0.3:
        changed = of_json(rng, json.dumps(header).encode())
    else:
        card = of_json(rng, header["__metadata__"]["card"].encode())
        header["__metadata__"]["card"] = card.decode("utf-8", errors="replace")
        changed = json.dumps(header).encode()
    return len(changed).to_bytes(8, "little") + changed + data[8 + length :]


def read_model(data: bytes, folder: Path) -> None:
    from cardiometa.segmentation.model import load_model, tensors_of

    path = folder / "m.safetensors"
    path.write_bytes(data)
    model = load_model(path)
    assert sorted(model.card.label_order()) == [0, 1, 2, 3]
    tensors_of(model)


TARGETS = (
    Target(name="toml", seeds=cohort_seeds, mutate=of_toml, read=read_toml),
    Target(
        name="cohort-toml", seeds=cohort_seeds, mutate=of_toml, read=read_cohort_toml, slow=True
    ),
    Target(
        name="plan-toml", seeds=plan_seeds, mutate=of_toml, read=read_plan, slow=True, sound=False
    ),
    Target(
        name="site-json",
        seeds=lambda: [site_document()],
        mutate=of_site,
        read=read_site_file,
        slow=True,
    ),
    Target(
        name="reference-json",
        seeds=lambda: [reference_document()],
        mutate=of_json,
        read=read_reference_file,
        slow=True,
    ),
    Target(name="result-json", seeds=result_seeds, mutate=of_json, read=read_result),
    Target(name="record-json", seeds=record_seeds, mutate=of_json, read=read_record),
    Target(
        name="snapshot-json",
        seeds=lambda: [snapshot_document()],
        mutate=of_json,
        read=read_cohort_json,
    ),
    Target(name="rules-json", seeds=rules_seeds, mutate=of_json, read=read_rules),
    Target(name="ledger-json", seeds=ledger_seeds, mutate=of_json, read=read_ledger),
    Target(
        name="key", seeds=lambda: [b"0123456789abcdef0123"], mutate=of_bytes, read=read_key_file
    ),
    Target(name="model", seeds=model_seeds, mutate=of_model, read=read_model),
)
