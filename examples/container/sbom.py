"""The software bill of materials of this Python environment, CycloneDX 1.5 JSON, on stdout.

    python sbom.py > sbom.cdx.json

Equal environments give equal bytes: there is neither a time nor a random serial number.
"""

import hashlib
import json
import re
import sys
from importlib import metadata, resources


def component(found: metadata.Distribution) -> dict:
    name = re.sub(r"[-_.]+", "-", found.name).lower()
    purl = f"pkg:pypi/{name}@{found.version}"
    entry = {"type": "library", "bom-ref": purl, "name": name}
    entry |= {"version": found.version, "purl": purl}
    expression = found.metadata.get("License-Expression")
    # Older packages have free text, of which the first line names the licence, or a classifier.
    names = [found.metadata.get("License") or ""]
    names += [
        line.rpartition(" :: ")[2]
        for line in found.metadata.get_all("Classifier", [])
        if line.startswith("License ::")
    ]
    named = [name.strip().splitlines()[0] for name in names if name.strip()]
    if expression:
        entry["licenses"] = [{"expression": expression}]
    elif named:
        entry["licenses"] = [{"license": {"name": named[0]}}]
    return entry


def weights() -> dict:
    """The bundled model, which has a licence of its own."""
    folder = resources.files("cardiometa.segmentation").joinpath("weights")
    data = folder.joinpath("cardiometa-sax.safetensors").read_bytes()
    card = json.loads(folder.joinpath("model.json").read_text(encoding="utf-8"))
    return {
        "type": "machine-learning-model",
        "bom-ref": card["id"],
        "name": card["id"],
        "hashes": [{"alg": "SHA-256", "content": hashlib.sha256(data).hexdigest()}],
        "licenses": [{"license": {"id": "CC-BY-NC-SA-4.0"}}],
    }


def bill() -> dict:
    found = {entry["bom-ref"]: entry for entry in map(component, metadata.distributions())}
    entries = [found[name] for name in sorted(found)]
    own = next(entry for entry in entries if entry["name"] == "cardiometa")
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {"component": {**own, "type": "application"}},
        "components": [entry for entry in entries if entry is not own] + [weights()],
    }


if __name__ == "__main__":
    json.dump(bill(), sys.stdout, indent=2)
