"""`csmtplib run` against the interpreter itself: a program can't tell the difference."""

from __future__ import annotations

import os
import py_compile
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import csmtplib

from ..requirements import needs_symbolic_links

SECONDS = 60

PROGRAMS = {
    "names": """\
import __main__, sys
print(sys.argv, sys.path[0], __name__, __file__, __package__, __loader__.__class__)
print(__spec__ and __spec__.name, __main__.__dict__ is globals(), __builtins__, sorted(globals()))
""",
    "returns": "print('done')",
    "exits": "import sys; sys.exit(3)",
    "exits with words": "import sys; sys.exit('no more')",
    "raises": "def f():\n    raise ValueError('no')\n\nf()\n",
    "raises from": (
        "try:\n    1/0\nexcept ZeroDivisionError as error:\n    raise KeyError('k') from error\n"
    ),
    "no Python": "x = = 1\n",
    "interrupted": "raise KeyboardInterrupt\n",
    "own hook": (
        "import sys\n"
        "def hook(kind, error, trace):\n"
        "    print('hooked', kind, error, trace.tb_frame.f_code.co_name, trace.tb_next)\n"
        "sys.excepthook = hook\n"
        "raise OSError(5)\n"
    ),
    "lives on": (
        "import atexit, pickle, threading\n"
        "class Thing: pass\n"
        "released = threading.Event()\n"
        "def late():\n"
        "    released.wait()\n"
        "    print(type(pickle.loads(pickle.dumps(Thing()))))\n"
        "threading.Thread(target=late).start()\n"
        "atexit.register(lambda: print('at exit', pickle.dumps(Thing()) != b''))\n"
        "class Last:\n"
        "    def __del__(self): released.set()\n"
        "last = Last()\n"
        "del last\n"
    ),
    "annotated": "x: int = 1\nprint(x)\n",
}


def python(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=cwd,
        env=os.environ | {"CSMTPLIB_IMPL": csmtplib.implementation},
        capture_output=True,
        timeout=SECONDS,
    )


def assert_same(arguments: list[str], cwd: Path, *options: str) -> None:
    ours = python(*options, "-m", "csmtplib", "run", *arguments, cwd=cwd)
    its = python(*options, *arguments, cwd=cwd)
    assert (ours.returncode, ours.stdout, ours.stderr) == (its.returncode, its.stdout, its.stderr)


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_script(tmp_path: Path, name: str) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "program.py").write_text(PROGRAMS[name])
    assert_same(["sub/program.py", "a", "-m", "--", "--help", ""], tmp_path)


@pytest.mark.parametrize("name", ["names", "raises", "exits"])
def test_a_module(tmp_path: Path, name: str) -> None:
    (tmp_path / "program.py").write_text(PROGRAMS[name])
    assert_same(["-m", "program", "a", "-m", "--", "--help"], tmp_path)


def test_a_package(tmp_path: Path) -> None:
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "__init__.py").write_text("import sys; print(sys.argv)")
    (tmp_path / "package" / "__main__.py").write_text("print(__spec__.name); 1/0")
    assert_same(["-m", "package", "a"], tmp_path)


@pytest.mark.parametrize("name", ["names", "raises"])
def test_a_directory(tmp_path: Path, name: str) -> None:
    (tmp_path / "directory").mkdir()
    (tmp_path / "directory" / "__main__.py").write_text(PROGRAMS[name])
    assert_same(["directory", "a", "-b"], tmp_path)


def test_a_zip_file(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "program.pyz", "w") as archive:
        archive.writestr("__main__.py", "import other, sys; print(sys.path[0], sys.argv); 1/0")
        archive.writestr("other.py", "print(__name__)")
    assert_same(["program.pyz", "a"], tmp_path)


def test_bytecode(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(PROGRAMS["names"] + "1/0")
    py_compile.compile(str(tmp_path / "program.py"), cfile=str(tmp_path / "program.pyc"))
    assert_same(["program.pyc", "a"], tmp_path)


@needs_symbolic_links
def test_a_script_behind_a_link(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "program.py").write_text("import beside, sys; print(sys.argv, __file__)")
    (tmp_path / "sub" / "beside.py").write_text("print('beside')")
    (tmp_path / "link").symlink_to("sub/program.py")
    assert_same(["link"], tmp_path)


@pytest.mark.skipif(sys.version_info < (3, 11), reason="Python 3.11 brought -P")
@pytest.mark.parametrize("arguments", [["sub/program.py"], ["sub"], ["-m", "csmtplib"]])
def test_safe_path(tmp_path: Path, arguments: list[str]) -> None:
    (tmp_path / "sub").mkdir()
    for file in ("program.py", "__main__.py"):
        (tmp_path / "sub" / file).write_text("import sys; print(sys.path, sys.argv)")
    assert_same([*arguments, "--version"], tmp_path, "-P")


@pytest.mark.parametrize("arguments", [["missing.py"], ["empty"], ["-m", "missing"]], ids=" ".join)
def test_what_is_not_there(tmp_path: Path, arguments: list[str]) -> None:
    (tmp_path / "empty").mkdir()
    ours = python("-m", "csmtplib", "run", *arguments, cwd=tmp_path)
    its = python(*arguments, cwd=tmp_path)
    assert ours.returncode == its.returncode != 0
    name = f"{sys.executable}: ".encode()
    assert ours.stderr.removeprefix(b"csmtplib: ").removeprefix(name) == its.stderr.removeprefix(
        name
    )


@pytest.mark.parametrize("way", ["import smtplib", "import logging.handlers, smtplib"])
def test_smtplib_is_csmtplib(tmp_path: Path, way: str) -> None:
    (tmp_path / "program.py").write_text(f"{way}\nprint(smtplib.__name__, smtplib.SMTP.__module__)")
    done = python("-m", "csmtplib", "run", "program.py", cwd=tmp_path)
    assert done.stdout.startswith(b"csmtplib csmtplib."), done.stderr
