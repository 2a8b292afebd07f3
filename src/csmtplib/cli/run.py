"""`csmtplib run`: an unmodified program, with csmtplib where it imports smtplib."""

from __future__ import annotations

import argparse
import builtins
import os
import pkgutil
import runpy
import sys
from collections.abc import Callable, Sequence
from importlib.machinery import SourceFileLoader, SourcelessFileLoader
from types import ModuleType, TracebackType
from typing import Any, TypeAlias

from ..swap import install
from .conventions import Parser

ExceptHook: TypeAlias = Callable[[type[BaseException], BaseException, TracebackType | None], object]

_DESCRIPTION = """\
Runs a program as `python SCRIPT` or `python -m MODULE` would, after csmtplib.install():
its `import smtplib` gives csmtplib. Other Python processes that it starts are not covered.
"""

# What Python exits with for a script that it can't open.
_CANNOT_OPEN = 2


def main(arguments: Sequence[str]) -> int:
    """Runs a program, and returns 0 where it ends; what it raises, SystemExit too, passes."""
    options = _parser().parse_args(arguments)
    install()
    _become_main()
    try:
        if options.module:
            _run_module(options.program, options.arguments)
        elif pkgutil.get_importer(options.program) is not None:
            _run_directory(options.program, options.arguments)
        else:
            _run_script(options.program, options.arguments)
    except BaseException:
        # Shown by the interpreter on its way out, which also knows the exit code, by a signal for
        # KeyboardInterrupt.
        sys.excepthook = _without_our_frames(sys.excepthook)
        raise
    return 0


def _parser() -> Parser:
    parser = Parser(
        prog="csmtplib run",
        usage="csmtplib run SCRIPT [ARGUMENT ...]\n       csmtplib run -m MODULE [ARGUMENT ...]",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("-m", action="store_true", dest="module", help="run a module, by its name")
    parser.add_argument(
        "program",
        metavar="SCRIPT",
        help="a file, or a directory or zip file that holds __main__.py",
    )
    parser.add_argument(
        "arguments", nargs=argparse.REMAINDER, metavar="ARGUMENT", help="the program's own"
    )
    return parser


def _become_main() -> None:
    """Gives the program a __main__ of its own. It stays: threads and exit handlers outlive us."""
    module = ModuleType("__main__")
    vars(module)["__builtins__"] = builtins
    if sys.version_info < (3, 14):
        vars(module)["__annotations__"] = {}
    sys.modules["__main__"] = module


def _run_module(name: str, arguments: list[str]) -> None:
    sys.argv[:] = ["-m", *arguments]
    if _has_own_directory():
        sys.path[0] = os.getcwd()
    # What `python -m` itself calls; runpy.run_module() would take __main__ away at the end.
    runpy._run_module_as_main(name)  # type: ignore[attr-defined]


def _run_directory(path: str, arguments: list[str]) -> None:
    sys.argv[:] = [path, *arguments]
    # Python's -P leaves out a script's directory, and not this.
    sys.path[: 1 if _has_own_directory() else 0] = [os.path.abspath(path)]
    runpy._run_module_as_main("__main__", False)  # type: ignore[attr-defined]


def _run_script(script: str, arguments: list[str]) -> None:
    sys.argv[:] = [script, *arguments]
    path = os.path.abspath(script)
    is_bytecode = script.endswith(".pyc")
    loader = (SourcelessFileLoader if is_bytecode else SourceFileLoader)("__main__", path)
    try:
        octets = loader.get_data(path)
    except OSError as error:
        reason = f"[Errno {error.errno}] {error.strerror}"
        print(f"csmtplib: can't open file {path!r}: {reason}", file=sys.stderr)
        sys.exit(_CANNOT_OPEN)
    if _has_own_directory():
        sys.path[0] = os.path.dirname(os.path.realpath(script))
    code: Any
    if is_bytecode:
        code = loader.get_code("__main__")
    else:
        code = compile(octets, path, "exec", dont_inherit=True)
    namespace = vars(sys.modules["__main__"])
    namespace.update(__file__=path, __cached__=None, __loader__=loader)
    exec(code, namespace)


def _has_own_directory() -> bool:
    """Whether sys.path[0] is where we were found, to be replaced by what the program expects."""
    return not (sys.flags.isolated or getattr(sys.flags, "safe_path", False))


def _without_our_frames(excepthook: ExceptHook) -> ExceptHook:
    def shown(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        ours = shown.__code__.co_filename
        program = trace
        while trace is not None:
            if trace.tb_frame.f_code.co_filename == ours:
                program = trace.tb_next
            trace = trace.tb_next
        excepthook(kind, error.with_traceback(program), program)

    return shown
