"""Write a cohort over a folder of ACDC patients: ``python make_cohort.py ACDC_FOLDER OUT_FOLDER``.

ACDC (Bernard 2018, doi:10.1109/TMI.2018.2837502) is one hospital's data; the three "trials" here
are an arbitrary split into thirds, so that the commands have several trials to work on. No patient
was randomised. ``healthy`` is the group NOR. The expert's volumes become ``reported_*``.
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Container
from pathlib import Path

TRIALS = ("DIJON-A", "DIJON-B", "DIJON-C")
REPORTED = (
    "lv_edv_ml",
    "lv_esv_ml",
    "lv_ef_percent",
    "lv_mass_g",
    "rv_edv_ml",
    "rv_esv_ml",
    "rv_ef_percent",
)
TOML_TRIAL = """
[trials.{trial}]
participants = "{trial}/participants.csv"
scans = "{trial}/scans.csv"
root = '{root}'
randomised = false
papillary = "blood-pool"
healthy_rule = "ACDC group NOR: no cardiac disease found"

[trials.{trial}.columns]
participant_id = "patient"
healthy.column = "group"
healthy.map = {{ NOR = true, DCM = false, HCM = false, MINF = false, RV = false }}
"""


def main(source: Path, target: Path, only: Container[str] | None = None) -> None:
    """Write ``cohort.toml`` and each trial's two tables below ``target``.

    ``only`` names the patients to take; default all.
    """
    with (source / "reference_volumes.csv").open(newline="", encoding="utf-8") as stream:
        rows = sorted(csv.DictReader(stream), key=lambda row: row["participant_id"])
    rows = [row for row in rows if only is None or row["participant_id"] in only]
    text = 'name = "acdc-three-thirds"\n'
    for number, trial in enumerate(TRIALS):
        own = rows[number :: len(TRIALS)]
        folder = target / trial
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "participants.csv").open("w", newline="", encoding="utf-8") as stream:
            writer = csv.writer(stream, lineterminator="\n")
            writer.writerow(["patient", "group"])
            writer.writerows([row["participant_id"], row["group"]] for row in own)
        with (folder / "scans.csv").open("w", newline="", encoding="utf-8") as stream:
            writer = csv.writer(stream, lineterminator="\n")
            reported = [f"reported_{name}" for name in REPORTED]
            writer.writerow(["participant_id", "visit", "ed_images", "es_images", *reported])
            for row in own:
                patient = row["participant_id"]
                images = [f"{patient}/{patient}_{phase}.nii.gz" for phase in ("ED", "ES")]
                writer.writerow([patient, "baseline", *images, *(row[name] for name in REPORTED)])
        text += TOML_TRIAL.format(trial=trial, root=source.resolve().as_posix())
    (target / "cohort.toml").write_text(text, encoding="utf-8")
    print(f"{len(rows)} patients in {len(TRIALS)} trials: {target / 'cohort.toml'}")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(Path(sys.argv[1]), Path(sys.argv[2]))
