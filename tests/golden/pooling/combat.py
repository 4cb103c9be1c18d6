"""Golden values of ComBat: neuroCombat on three measures of four simulated trials.

Run: python combat.py > combat.json  (neuroCombat 0.2.12; writes combat.csv beside it).
neuroCombat stops its iteration where nothing changes by 1e-4; here it goes on to 1e-14.
"""

import contextlib
import io
import json
import sys
from importlib.metadata import version

import numpy as np
import pandas as pd
from neuroCombat import neuroCombat

module = sys.modules["neuroCombat.neuroCombat"]
draw = np.random.default_rng(20261201)
names = ["reported_lv_edv_ml", "reported_lv_esv_ml", "reported_lv_ef_percent"]
shapes = {"A": (14, 1.1, 6), "B": (25, 0.9, -3), "C": (9, 1.0, 0), "D": (40, 1.3, 10)}
parts = []
for trial, (n, factor, shift) in shapes.items():
    edv = factor * draw.normal(190, 35, n) + shift
    ef = draw.normal(42, 8 * factor, n)
    parts.append(pd.DataFrame({"trial": trial, names[0]: edv, names[1]: edv * (1 - ef / 100),
                               names[2]: ef}))  # fmt: skip
rows = pd.concat(parts, ignore_index=True).round(3)
rows.to_csv("combat.csv", index=False)


def harmonise(columns, **options):
    values = rows[columns].to_numpy(dtype=float).T
    with contextlib.redirect_stdout(io.StringIO()):
        found = neuroCombat(values, rows[["trial"]], "trial", **options)
    estimates = found["estimates"]
    return {
        "gamma": np.asarray(estimates["gamma.star"]).tolist(),
        "delta": np.asarray(estimates["delta.star"]).tolist(),
        "values": found["data"].T.tolist(),
    }


shipped = harmonise(names)
module.it_sol.__defaults__ = (1e-14,)
out = {
    "made_by": {"neuroCombat": version("neuroCombat"), "numpy": np.__version__},
    "empirical_bayes": harmonise(names),
    "as_shipped": {"delta": shipped["delta"]},
    "one_measure": harmonise(names[2:], eb=False),
}
print(json.dumps(out, indent=1))
