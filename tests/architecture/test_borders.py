"""The house keeps its borders: who imports whom, and what start-up loads."""

from __future__ import annotations

import subprocess
import sys

from tests.kit.modules import modules

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


def test_no_stage_reaches_back() -> None:
    assert not [
        f"{module.name} imports {name}"
        for module in modules()
        if module.stage in ORDER
        for name in sorted({own.partition(".")[0] for own in module.own} & set(ORDER))
        if ORDER.index(name) > ORDER.index(module.stage)
    ]


def test_libraries_stay_where_they_belong() -> None:
    for module in modules():
        others, stage = module.others, module.stage
        assert not others & FORBIDDEN.get(stage, set()), module.name
        for library, homes in ONLY_IN.items():
            assert library not in others or stage in homes, module.name
        if stage in ("errors", "records"):
            allowed = {"numpy", "pandas"} if stage == "records" else set()
            assert others <= set(sys.stdlib_module_names) | allowed, module.name
        if module.path.stem == "training":
            assert others <= set(sys.stdlib_module_names) | TRAINING, module.name


def test_only_files_writes() -> None:
    # Training runs alone, where this package may be just one copied folder.
    apart = [m for m in modules() if m.stage != "files" and m.path.stem != "training"]
    assert not [f"{module.name}:{place}" for module in apart for place in module.writes]


def loaded_after(code: str) -> set[str]:
    script = f"import sys\n{code}\nprint('\\n'.join(sorted(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    return set(done.stdout.split("\n"))


HEAVY = {"torch", "pandas", "statsmodels", "matplotlib", "scipy", "pydicom", "nibabel", "jinja2"}


def test_help_loads_nothing_heavy() -> None:
    code = (
        "from cardiometa.cli.main import app\n"
        "import contextlib, io\n"
        "for words in '--help', 'segment --help', 'pool-trials --help', '--version':\n"
        "    with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):\n"
        "        app(words.split())"
    )
    assert not loaded_after(code) & HEAVY


def test_statistics_load_no_image_library() -> None:
    names = ("reference_ranges", "pool_trials", "apply_reference", "summarise", "show")
    code = "\n".join(f"import cardiometa.commands.{name}" for name in (*names, "evaluate", "merge"))
    assert not loaded_after(code) & {"torch", "pydicom", "nibabel", "gdcm"}
