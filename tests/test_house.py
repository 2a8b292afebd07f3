"""The rules that keep the house in order: who imports whom, and what an import costs."""

from __future__ import annotations

import ast
import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import csmtplib

PACKAGE = Path(csmtplib.__path__[0])

# Imports point downwards: from a room to itself, or to one that stands before it.
ROOMS = [
    "lazy",
    "kernel",
    "protocol",
    "drive",
    "fastpath",
    "client",
    "swap",
    "csmtplib",
    "bulk",
    "aio",
    "compose",
    "cli",
]

MODULES = sorted(
    ".".join(("csmtplib", *path.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(
        ".__init__"
    )
    for path in PACKAGE.rglob("*.py")
)


def room(module: str) -> str:
    """The top-level part of the package in which a module stands."""
    parts = module.split(".")
    if parts[-1] == "__main__":
        return "cli"
    return parts[1] if len(parts) > 1 else "csmtplib"


def imported(module: str) -> set[str]:
    """The modules of ours that a module imports, wherever in its code."""
    path = PACKAGE.joinpath(*module.split(".")[1:])
    is_package = path.is_dir()
    source = path / "__init__.py" if is_package else path.with_suffix(".py")
    found = set()
    for node in ast.walk(ast.parse(source.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            parent = module.split(".")[: len(module.split(".")) - node.level + is_package]
            base = ".".join([*(parent if node.level else []), *filter(None, [node.module])])
            # "from . import name" may mean a module of that name.
            names = {f"{base}.{alias.name}" for alias in node.names}
            found |= {name for name in names if name in MODULES} or {base}
    return {name for name in found if name.split(".")[0] == "csmtplib"}


@pytest.mark.parametrize("module", MODULES)
def test_imports_point_downwards(module: str) -> None:
    here = room(module)
    for other in imported(module):
        assert ROOMS.index(room(other)) <= ROOMS.index(here), f"{module} imports {other}"


def test_the_rule_sees_the_imports() -> None:
    assert "csmtplib.kernel" in imported("csmtplib.protocol.envelope")
    assert "csmtplib.client.smtp" in imported("csmtplib")
    # Those for type checkers, and those within functions.
    assert "csmtplib.protocol.result" in imported("csmtplib.client.smtp")
    assert "csmtplib.client.streaming" in imported("csmtplib.client.smtp")


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """A circle for each node of a graph that is in one."""
    found = []
    for node in graph:
        # From each node, the one that leads to it.
        came_from = dict.fromkeys(graph[node], node)
        reached = list(came_from)
        for each in reached:
            for other in graph.get(each, set()) - came_from.keys():
                came_from[other] = each
                reached.append(other)
        if node in came_from:
            path = [node, came_from[node]]
            while path[-1] != node:
                path.append(came_from[path[-1]])
            found.append(path[::-1])
    return found


def test_no_modules_import_each_other() -> None:
    # A package imports its compiled modules from itself.
    graph = {module: imported(module) - {module} for module in MODULES}
    assert [" -> ".join(path) for path in circles(graph)] == []


def test_the_rule_sees_circles() -> None:
    graph = {"a": {"b"}, "b": {"c", "d"}, "c": {"a"}, "d": {"e"}, "e": set(), "f": {"f"}}
    assert ["".join(path) for path in circles(graph)] == ["abca", "bcab", "cabc", "ff"]


def run(code: str) -> str:
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        env=os.environ | {"CSMTPLIB_IMPL": csmtplib.implementation},
        capture_output=True,
        text=True,
        check=True,
    ).stdout


@pytest.mark.parametrize("module", [each for each in MODULES if not each.endswith("__main__")])
def test_each_module_imports_alone(module: str) -> None:
    run(f"import {module}")


def test_importing_csmtplib_imports_little_more_than_smtplib() -> None:
    # So it can't take much longer; benchmarks/ has the times.
    more = run(
        "import sys, smtplib; before = set(sys.modules); import csmtplib;"
        "print(*(set(sys.modules) - before))"
    ).split()
    others = {name.split(".")[0] for name in more if "cython" not in name}
    # socket has imported select until it came to do that when it is needed, in Python 3.14.
    assert others <= {"csmtplib", "__future__", "contextlib", "select"}


@pytest.mark.parametrize("wanted", ["python", csmtplib.implementation])
def test_the_implementation_that_is_asked_for(wanted: str) -> None:
    assert implementation(wanted) == wanted


def test_unset_the_compiled_kernels_serve_where_they_import() -> None:
    built = importlib.util.find_spec("csmtplib.kernel._c") is not None
    assert implementation("") == ("c" if built else "python")


def test_an_implementation_that_does_not_exist() -> None:
    with pytest.raises(subprocess.CalledProcessError) as raised:
        implementation("fortran")
    assert (
        "ImportError: CSMTPLIB_IMPL is 'fortran'; set it to 'c' or 'python'" in raised.value.stderr
    )


def implementation(wanted: str) -> str:
    """Return what a new process prints with CSMTPLIB_IMPL set to this."""
    return subprocess.run(
        [sys.executable, "-c", "import csmtplib; print(csmtplib.implementation)"],
        env=os.environ | {"CSMTPLIB_IMPL": wanted},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()


def test_the_compiled_kernels_are_not_replaced_when_asked_for() -> None:
    code = (
        "import sys; sys.modules['csmtplib.kernel._c'] = None\n"
        "try:\n import csmtplib\nexcept ImportError as error:\n print(error)"
    )
    told = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"CSMTPLIB_IMPL": "c"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert "CSMTPLIB_IMPL=c" in told
    assert "CSMTPLIB_BUILD=require" in told


@pytest.mark.parametrize(
    ("stub", "twins"),
    [("_c", ["_python"]), ("_c_pipeline", ["_python_content", "_python_pipeline"])],
)
def test_the_stub_describes_the_pure_twins(stub: str, twins: list[str]) -> None:
    kernel = PACKAGE / "kernel"
    described = ast.parse((kernel / f"{stub}.pyi").read_text("utf-8"))
    pure = ast.parse("\n".join((kernel / f"{twin}.py").read_text("utf-8") for twin in twins))
    assert signatures(described) == signatures(pure)
    # What the twins of one package need of each other is no part of the stubs.
    assert attributes(described) <= attributes(pure)


def signatures(module: ast.Module) -> dict[str, str]:
    """The public functions and methods of a module, each with its signature."""
    found = {}
    for node in public_parts(module):
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.FunctionDef) and (
                child.name.startswith("__") or not child.name.startswith("_")
            ):
                owner = f"{node.name}." if isinstance(node, ast.ClassDef) else ""
                arguments = ast.unparse(child.args).replace("_python.", "")
                # What __cinit__ takes is what the stub's __new__ does, and the twin's __init__.
                name = child.name.replace("__new__", "__init__")
                found[owner + name] = re.sub("^cls", "self", arguments)
    # What an instance takes; BodyEncoder's takes nothing, and the stub leaves it out.
    return {name: found[name] for name in found if found[name] != "self" or "init" not in name}


def attributes(module: ast.Module) -> set[str]:
    """The attributes of the instances of a module's public classes: as a stub declares them, or as
    their methods set them."""
    found = set()
    for owner in public_parts(module):
        if isinstance(owner, ast.ClassDef):
            for node in ast.walk(owner):
                if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                    found.add(f"{owner.name}.{node.target.id}")
                elif (
                    isinstance(node, ast.Attribute)
                    and isinstance(node.ctx, ast.Store)
                    and ast.unparse(node.value) == "self"
                ):
                    found.add(f"{owner.name}.{node.attr}")
    return found


def public_parts(module: ast.Module) -> list[ast.Module | ast.ClassDef]:
    """The module itself, and its classes."""
    classes = [node for node in ast.walk(module) if isinstance(node, ast.ClassDef)]
    return [module, *(each for each in classes if not each.name.startswith("_"))]


# Words that only their authors knew, each with the one that everybody knows.
OLD_WORDS = {
    r"gears?": "mode",
    r"lockstep": "sequential",
    r"PIPELINED": "PIPELINING",
    r"CHUNKED": "CHUNKING",
    r"occup(y|ies|ant)|vacate": "acquire, owner, release",
    r"(un)?settle[sd]?": "complete, incomplete",
    r"surveys?": "scan",
    r"genuine|untouched": "original, is_overridden()",
    r"blink": "short wait",
    r"octets?(?!-stream)": "bytes",
    r"csmtp_line": "csmtp_connection",
}
ROOT = Path(__file__).parents[1]
SOURCES = [
    path
    for directory in ("src", "csrc", "docs")
    for path in sorted((ROOT / directory).rglob("*"))
    if path.suffix in (".py", ".pyx", ".pxd", ".pyi", ".c", ".h", ".md")
]


@pytest.mark.parametrize("directory", ["src", "tests", "benchmarks"])
def test_docstrings_say_what_a_thing_is_or_does(directory: str) -> None:
    """Those that begin with "What" or "Has" leave the reader to find out which."""
    found = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in sorted((ROOT / directory).rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and re.match(r"(What|Has)\b.*\.$", node.value, re.DOTALL)
    ]
    assert not found


@pytest.mark.skipif(not SOURCES, reason="the sources are not here")
@pytest.mark.parametrize("word", OLD_WORDS)
def test_one_word_for_one_thing(word: str) -> None:
    found = re.compile(rf"(?<![A-Za-z])({word})(?![a-z])", re.IGNORECASE if word.islower() else 0)
    places = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path in SOURCES
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1)
        if found.search(line)
    ]
    assert not places, f"say {OLD_WORDS[word]!r}"
