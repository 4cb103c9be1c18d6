"""Small runs of the command line whose numbers are frozen, and how they are read and written.

`python -m tests.frozen.runs` writes the golden file anew: only for a change of numbers that is
meant, and then the commit says what changed and why.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from typer.testing import CliRunner

from cardiometa.cli.main import app
from tests.kit.pooling_tables import simulate_wide, to_long
from tests.kit.reference_tables import people_frame

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "frozen" / "numbers.json"
POOLING = GOLDEN.parents[1] / "pooling"
DIGITS = 9
# Sentences may be rewritten; file names and columns beyond those frozen may come.
FREE_TEXT = ("note", "sentence", "score_note", "reason", "warnings", "hint")

_POOL = "pool-trials {in}/%s --out {out} --outcome lv_ef_percent --baseline lv_ef_baseline "
_WIDE = _POOL % "wide.csv"
_FAST = " --model two-stage --no-leave-one-out"
_EVENTS = "pool-trials {in}/events.csv --out {out} "
_RANGES = "reference-ranges {in}/people.csv --out {out} --bootstrap 200 --measure lv_edvi_ml_m2 "
_SITE = "--outcome lv_ef_percent --baseline lv_ef_baseline --adjust age --by sex"

# Name: the commands, run one after the other in a folder of its own.
RUNS: Mapping[str, Sequence[str]] = {
    "both-stages": [
        _WIDE + "--adjust age,sex --random-effects correlated --residual common "
        "--ci-one-stage satterthwaite --no-leave-one-out"
    ],
    "subgroups-spline": [_WIDE + "--by sex,age --age-bands 18,60 --spline 3 --tau2 pm" + _FAST],
    "clusters": [_POOL % "cluster.csv" + "--cluster ward --min-cell 0" + _FAST],
    "worst-rank": [_POOL % "worst_rank.csv" + "--estimand worst-rank --min-cell 0" + _FAST],
    "imputed": [
        _POOL % "missing.csv" + "--missing-outcome impute --imputations 3 --adjust age" + _FAST
    ],
    "reported": [
        "pool-trials {in}/long.csv --out {out} --outcome lv_ef_percent --compare-reported" + _FAST
    ],
    "meta-regression": [
        _WIDE + "--effect change --tau2 dl --ci wald --level 90 --model two-stage "
        "--meta-regression age,sex,year"
    ],
    "arms": [_POOL % "multi_arm.csv" + "--min-cell 0" + _FAST],
    "odds-ratio": [_EVENTS + "--outcome died --effect odds-ratio --by sex --min-cell 0" + _FAST],
    "risk-difference": [_EVENTS + "--outcome died --effect risk-difference --min-cell 0" + _FAST],
    "hazard-ratio": [
        _EVENTS + "--effect hazard-ratio --time mace_day --event mace --min-cell 0 "
        "--no-leave-one-out"
    ],
    "summaries": ["pool-trials {in}/summaries.csv --out {out} --effect follow-up"],
    "sites": [
        "summarise {in}/wide.csv --out {out}/site/site.json " + _SITE,
        "pool-trials {out}/site/site.json --out {out}/pooled --no-leave-one-out",
    ],
    "strata": [_RANGES + "--method strata --by sex,age --age-bands 18,50"],
    "curve-scored": [
        _RANGES + "--method lms --by sex,age --at-ages 30,50,70",
        "score {out}/reference_ranges.json {in}/few.csv --out {out}/scores.csv",
    ],
    "quantile-upper": [
        _RANGES + "--method quantile --trial-effect fixed --by sex --sided upper --at-ages 40,60"
    ],
    "meta-ranges": [_RANGES + "--method meta --by sex"],
}


def write_tables(folder: Path) -> None:
    """The tables that the runs read."""
    wide = simulate_wide(4, 11, people=40, tau=1.5).round({"lv_ef_baseline": 3, "lv_ef_percent": 3})
    wide["year"] = 2000 + wide["trial"].str[1:].astype(int)
    wide.to_csv(folder / "wide.csv", index=False)
    missing = wide.copy()
    missing.loc[missing.index % 9 == 4, "lv_ef_percent"] = np.nan
    missing.to_csv(folder / "missing.csv", index=False)
    long = to_long(wide.drop(columns="year"))
    long["reported_lv_ef_percent"] = (1.03 * long["lv_ef_percent"] + long.index % 5).round(3)
    long.to_csv(folder / "long.csv", index=False)
    for name in ("cluster", "worst_rank", "multi_arm", "events"):
        (folder / f"{name}.csv").write_bytes((POOLING / f"{name}.csv").read_bytes())
    estimates = [1.2, 2.3, 0.4, 3.1, -0.5, 1.9, 2.2, 0.9]
    errors = [0.45, 0.55, 0.39, 0.8, 0.7, 0.5, 0.6, 0.33]
    summaries = {"trial": list("ABCDEFGH"), "estimate": estimates, "se": errors}
    pd.DataFrame(summaries).to_csv(folder / "summaries.csv", index=False)
    people = people_frame(600).round({"lv_edvi_ml_m2": 3})
    people.to_csv(folder / "people.csv", index=False)
    people_frame(30, seed=8).to_csv(folder / "few.csv", index=False)


def numbers_of(commands: Sequence[str], inputs: Path, out: Path) -> dict[str, dict]:
    """Every CSV below ``out`` after the commands: columns of cells, free text left out."""
    for command in commands:
        words = [w.replace("{in}", str(inputs)).replace("{out}", str(out)) for w in command.split()]
        done = CliRunner().invoke(app, words)
        assert done.exit_code == 0, done.output
    found = {}
    for path in sorted(out.rglob("*.csv")):
        with path.open(newline="", encoding="utf-8") as stream:
            names, *rows = list(csv.reader(stream))
        found[path.relative_to(out).as_posix()] = {
            name: [_value(row[place]) for row in rows]
            for place, name in enumerate(names)
            if not name.endswith(FREE_TEXT)
        }
    return found


def _value(cell: str) -> float | str:
    try:
        return float(cell)
    except ValueError:
        return cell


def draw_nothing(figure: Figure, target, **options) -> None:
    """In place of `Figure.savefig`: figures take longer than their numbers and are not frozen."""
    svg = '<svg xmlns="http://www.w3.org/2000/svg" width="1pt" height="1pt" viewBox="0 0 1 1"/>'
    target.write(b"" if options.get("format") == "png" else svg)


def main() -> None:
    import tempfile

    Figure.savefig = draw_nothing
    with tempfile.TemporaryDirectory() as name:
        top = Path(name)
        write_tables(top)
        found = {run: numbers_of(RUNS[run], top, top / "out" / run) for run in RUNS}
    GOLDEN.parent.mkdir(exist_ok=True)
    GOLDEN.write_text(_text(found), encoding="utf-8")


def _text(found: dict[str, dict[str, dict]]) -> str:
    """One line a column, numbers to 9 digits; a column that is all one value stands once."""
    runs = []
    for run, tables in found.items():
        parts = []
        for table, columns in tables.items():
            lines = ",\n".join(f"   {json.dumps(n)}: {_column(c)}" for n, c in columns.items())
            parts.append(f"  {json.dumps(table)}: {{\n{lines}\n  }}")
        runs.append(f" {json.dumps(run)}: {{\n" + ",\n".join(parts) + "\n }")
    return "{\n" + ",\n".join(runs) + "\n}\n"


def _column(cells: Sequence[float | str]) -> str:
    kept = [_short(cell) for cell in cells]
    if len(kept) > 1 and len(set(map(str, kept))) == 1:
        return json.dumps({"all": kept[0], "rows": len(kept)}, ensure_ascii=False)
    return json.dumps(kept, ensure_ascii=False, separators=(",", ":"))


def _short(cell: float | str) -> float | str:
    if isinstance(cell, str):
        return cell
    rounded = float(f"{cell:.{DIGITS}g}")
    return int(rounded) if rounded.is_integer() and abs(rounded) < 1e9 else rounded


if __name__ == "__main__":
    main()
