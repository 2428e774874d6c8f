"""House rules: what every file of the package keeps, walked and not listed."""

import ast
import doctest
import importlib
import pkgutil
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import qkvlab

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "src" / "qkvlab"
FILES = sorted(SOURCE.rglob("*.py"))
MODULES = sorted(found.name for found in pkgutil.walk_packages(qkvlab.__path__, "qkvlab.", onerror=lambda name: None))
RUN_ON_IMPORT = [name for name in MODULES if name.endswith("__main__")]
WITHOUT_TORCH = ("study", "report", "evidence", "claims", "web", "cli", "reference", "contracts", "errors", "designs")
HOLDS_TENSORS = tuple(f"qkvlab.designs.{name}" for name in ("latents", "projections", "turning"))
SHAPELESS_NAMES = {"utils", "util", "helpers", "helper", "common", "misc", "stuff", "base", "manager", "core_utils"}


def path_of(file):
    return str(file.relative_to(SOURCE))


def test_the_walk_finds_the_package():
    assert {"qkvlab.designs.ways", "qkvlab.attention.core", "qkvlab.testing.sizes"} <= set(MODULES)
    assert len(FILES) > 30


@pytest.mark.parametrize("name", sorted({*MODULES, "qkvlab"} - set(RUN_ON_IMPORT)))
def test_exported_names_exist(name):
    module = importlib.import_module(name)
    exported = getattr(module, "__all__", [])
    assert len(set(exported)) == len(exported)
    for each in exported:
        assert getattr(module, each, None) is not None, f"{name}.__all__ names {each}, which does not exist"


@pytest.mark.parametrize("name", sorted({*MODULES, "qkvlab"} - set(RUN_ON_IMPORT)))
def test_docstring_examples_run(name):
    found = doctest.testmod(importlib.import_module(name))
    assert found.failed == 0


def test_there_are_docstring_examples():
    assert sum(file.read_text(encoding="utf-8").count(">>> ") for file in FILES) >= 10


@pytest.mark.parametrize("file", FILES, ids=path_of)
def test_a_file_holds_one_idea(file):
    text = file.read_text(encoding="utf-8")
    lines = len(text.splitlines())
    assert lines <= 300, f"{path_of(file)} has {lines} lines; split it by idea"
    assert file.stem not in SHAPELESS_NAMES, f"{file.stem} says nothing; name the idea"
    if text.strip():
        assert ast.get_docstring(ast.parse(text)), f"{path_of(file)} does not say what it is for"


@pytest.mark.parametrize("file", FILES, ids=path_of)
def test_nobody_takes_too_many_arguments(file):
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            if any(ast.unparse(each) == "app.command()" for each in node.decorator_list):
                continue  # its arguments are a command's options
            count = len(node.args.posonlyargs) + len(node.args.args) + len(node.args.kwonlyargs)
            assert count <= 16, f"{path_of(file)}: {node.name} takes {count} arguments; find the parts"


@pytest.mark.parametrize("file", FILES, ids=path_of)
def test_parts_are_found_by_folder_not_by_flag(file):
    text = file.read_text(encoding="utf-8")
    assert not re.search(r"(?<![.\w])(eval|exec)\(", text), "configuration is not code in strings"
    assert not re.search(r"^\s*except:|except BaseException:\s*pass", text, re.M), "no error is swallowed whole"


IMPORT_ALL = """
import importlib, sys
for name in sys.argv[1:]:
    importlib.import_module(name)
    if "torch" in sys.modules:
        sys.exit(f"{name} imports torch")
"""


def test_reading_results_never_imports_torch():
    light = [
        name for name in MODULES if name.split(".")[1] in WITHOUT_TORCH and name not in (*HOLDS_TENSORS, *RUN_ON_IMPORT)
    ]
    assert len(light) > 10
    done = subprocess.run(
        [sys.executable, "-c", IMPORT_ALL, "qkvlab", *light], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_only_tensor_code_names_torch_at_the_top():
    for file in FILES:
        name = ".".join(("qkvlab", *file.relative_to(SOURCE).with_suffix("").parts))
        if name.split(".")[1] not in WITHOUT_TORCH or name in HOLDS_TENSORS:
            continue
        top = ast.parse(file.read_text(encoding="utf-8")).body
        for node in top:
            named = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            named += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not any(each.split(".")[0] == "torch" for each in named), f"{name} imports torch when imported"


def test_the_version_is_one():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["version"] == qkvlab.__version__


def test_the_changelog_knows_the_version():
    assert qkvlab.__version__ in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
