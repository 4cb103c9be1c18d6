"""The house keeps its borders: who imports whom, and what start-up loads."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import cardiometa

PACKAGE = Path(cardiometa.__file__).parent
ORDER = [
    "errors",
    "records",
    "flags",
    "files",
    "validation",
    "options",
    "locking",
    "manifest",
    "statistics",
    "imaging",
    "phantom",
    "segmentation",
    "measurement",
    "cohort",
    "privacy",
    "reference",
    "pooling",
    "evaluation",
    "reports",
    "reading",
    "pipeline",
    "review",
    "commands",
    "demo",
    "api",
    "cli",
]
FORBIDDEN = {
    "imaging": {"pandas", "statsmodels"},
    "segmentation": {"pandas", "statsmodels"},
    "measurement": {"pandas", "statsmodels", "torch"},
    "statistics": {"torch", "pydicom", "nibabel"},
    "reference": {"torch", "pydicom", "nibabel"},
    "pooling": {"torch", "pydicom", "nibabel"},
    "cohort": {"torch", "pydicom", "nibabel"},
}
ONLY_IN = {
    "typer": {"cli"},
    "rich": {"cli"},
    "jinja2": {"reports"},
    "matplotlib": {"reports"},
    "starlette": {"review"},
    "uvicorn": {"review"},
}
TRAINING = {"numpy", "torch", "safetensors"}


def modules() -> list[tuple[Path, str]]:
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).parts
        if parts[0] != "examples":  # which the wheel has inside
            found.append((path, parts[0].removesuffix(".py")))
    return found


def imports(path: Path) -> list[tuple[str, str]]:
    """(kind, name): ("own", stage) or ("other", top-level module); also inside functions."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    depth = len(parts)
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += [("other", alias.name.partition(".")[0]) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            if node.level == 0:
                top, _, rest = (node.module or "").partition(".")
                own = top == "cardiometa"
                found.append(("own", rest.partition(".")[0]) if own else ("other", top))
            else:
                base = list(parts[: depth - node.level])
                target = base + ((node.module or "").split(".") if node.module else [])
                names = [target[0]] if target else [alias.name for alias in node.names]
                found += [("own", name) for name in names]
    return found


@pytest.mark.parametrize(("path", "stage"), modules(), ids=lambda v: getattr(v, "stem", str(v)))
def test_no_stage_reaches_back(path: Path, stage: str) -> None:
    if stage not in ORDER:
        return
    for kind, name in imports(path):
        if kind == "own" and name in ORDER:
            assert ORDER.index(name) <= ORDER.index(stage), f"{path.name} imports {name}"


@pytest.mark.parametrize(("path", "stage"), modules(), ids=lambda v: getattr(v, "stem", str(v)))
def test_libraries_stay_where_they_belong(path: Path, stage: str) -> None:
    others = {name for kind, name in imports(path) if kind == "other"}
    assert not others & FORBIDDEN.get(stage, set())
    for library, homes in ONLY_IN.items():
        assert library not in others or stage in homes
    if stage in ("errors", "records"):
        allowed = {"numpy", "pandas"} if stage == "records" else set()
        assert others <= set(sys.stdlib_module_names) | allowed
    if path.stem == "training":
        assert others <= set(sys.stdlib_module_names) | TRAINING


WRITERS = {"write_text", "write_bytes", "unlink", "mkdir", "rename", "rmtree", "touch", "savefig"}


@pytest.mark.parametrize(("path", "stage"), modules(), ids=lambda v: getattr(v, "stem", str(v)))
def test_only_files_writes(path: Path, stage: str) -> None:
    # Training runs alone, where this package may be just one copied folder.
    if stage == "files" or path.stem == "training":
        return
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.Call):
            continue
        function = node.func
        if isinstance(function, ast.Name) and function.id == "open":
            modes = [a.value for a in node.args[1:] if isinstance(a, ast.Constant)]
            assert not any("w" in str(mode) or "a" in str(mode) for mode in modes), path
        if isinstance(function, ast.Attribute) and function.attr in WRITERS:
            owner = function.value
            in_memory = function.attr == "savefig"
            ours = isinstance(owner, ast.Name) and owner.id == "files"
            assert in_memory or ours, f"{path.name}:{node.lineno} {function.attr}"


def loaded_after(code: str) -> set[str]:
    script = f"import sys\n{code}\nprint('\\n'.join(sorted(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    return set(done.stdout.split("\n"))


HEAVY = {"torch", "pandas", "statsmodels", "matplotlib", "scipy", "pydicom", "nibabel", "jinja2"}


@pytest.mark.parametrize(
    "arguments", [["--help"], ["segment", "--help"], ["pool-trials", "--help"], ["--version"]]
)
def test_help_loads_nothing_heavy(arguments: list[str]) -> None:
    code = (
        "from cardiometa.cli.main import app\n"
        "import contextlib, io\n"
        "with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):\n"
        f"    app({arguments!r})"
    )
    assert not loaded_after(code) & HEAVY


def test_statistics_load_no_image_library() -> None:
    names = ("reference_ranges", "pool_trials", "apply_reference", "summarise", "show")
    code = "\n".join(f"import cardiometa.commands.{name}" for name in (*names, "evaluate", "merge"))
    assert not loaded_after(code) & {"torch", "pydicom", "nibabel", "gdcm"}
