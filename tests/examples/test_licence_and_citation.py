"""Licences, citation and bill of materials say the same of the same version."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
LICENCES = {"Apache-2.0", "CC-BY-NC-SA-4.0"}


def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_both_licences_are_stated_with_their_texts() -> None:
    assert set(project()["license"].split(" AND ")) == LICENCES
    assert "Version 2.0, January 2004" in (ROOT / "LICENSE").read_text()
    import cardiometa

    weights = Path(cardiometa.__file__).parent / "segmentation" / "weights"
    assert "Section 8 – Interpretation" in (weights / "CC-BY-NC-SA-4.0.txt").read_text()
    beside = (weights / "cardiometa-sax.safetensors.license").read_text()
    assert "SPDX-License-Identifier: CC-BY-NC-SA-4.0" in beside
    assert "CC BY-NC-SA 4.0" in json.loads((weights / "model.json").read_text())["licence"]


def test_the_citation_file_is_valid() -> None:
    """The rules of the schema 1.2.0 that a hand-written file is likely to break."""
    yaml = pytest.importorskip("yaml")
    cited = yaml.load((ROOT / "CITATION.cff").read_text(), Loader=yaml.BaseLoader)
    assert {"cff-version", "message", "title", "authors"} <= set(cited)
    known = {"cff-version", "message", "title", "authors", "abstract", "type", "version"}
    assert set(cited) <= known | {"license", "keywords", "references", "date-released"}
    assert cited["cff-version"] == "1.2.0"
    assert cited["type"] == "software"
    assert cited["version"] == project()["version"]
    assert cited["license"] in LICENCES
    for work in (cited, *cited["references"]):
        assert work["title"]
        for author in work["authors"]:
            assert set(author) in ({"name"}, {"family-names", "given-names"})
    for article in cited["references"]:
        assert article["type"] == "article"
        assert re.fullmatch(r"(19|20)\d\d", article["year"])
        assert re.fullmatch(r"10\.\d{4,9}/\S+", article.get("doi", "10.1234/none"))


def test_the_bill_of_materials_names_what_is_installed() -> None:
    script = ROOT / "examples" / "container" / "sbom.py"
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=True)
    bill = json.loads(done.stdout)
    assert (bill["bomFormat"], bill["specVersion"]) == ("CycloneDX", "1.5")
    assert bill["metadata"]["component"]["name"] == "cardiometa"
    entries = {entry["name"]: entry for entry in bill["components"]}
    refs = [entry["bom-ref"] for entry in bill["components"]]
    assert len(refs) == len(set(refs))
    import numpy as np

    assert entries["numpy"]["version"] == np.__version__
    assert entries["numpy"]["purl"] == f"pkg:pypi/numpy@{np.__version__}"
    (model,) = (e for e in bill["components"] if e["type"] == "machine-learning-model")
    assert model["licenses"] == [{"license": {"id": "CC-BY-NC-SA-4.0"}}]
    assert re.fullmatch(r"[0-9a-f]{64}", model["hashes"][0]["content"])


def test_the_container_installs_the_tested_torch_without_network_and_root() -> None:
    container = ROOT / "examples" / "container"
    texts = [ROOT / "README.md", container / "make_wheels.sh"]
    named = {
        version for path in texts for version in re.findall(r"torch==([\d.]+)", path.read_text())
    }
    assert len(named) == 1
    extras = project()["optional-dependencies"]
    for name in ("Dockerfile", "cardiometa.def"):
        text = (container / name).read_text()
        assert "--no-index --find-links /wheels" in text
        used = re.findall(r"(?:EXTRAS=|cardiometa\[)([a-z,]+)", text)
        assert used
        assert set(",".join(used).split(",")) <= set(extras)
    assert re.search(
        r"^USER [1-9]\d*:[1-9]\d*$", (container / "Dockerfile").read_text(), re.MULTILINE
    )
