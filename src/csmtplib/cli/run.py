"""`csmtplib run`: runs an unmodified program, with csmtplib where it imports smtplib."""

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
from .options import Parser

ExceptHook: TypeAlias = Callable[[type[BaseException], BaseException, TracebackType | None], object]

_DESCRIPTION = """\
Run a program like `python SCRIPT` or `python -m MODULE`, after
csmtplib.install(): its `import smtplib` gets csmtplib. Other Python processes
that it starts are not affected.
"""

# The exit code of Python for a script that it can't open.
_CANNOT_OPEN = 2


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Parse the program and its arguments. Exits on wrong usage."""
    return option_parser().parse_args(arguments)


def run(options: argparse.Namespace) -> None:
    """Run a program until it ends. Exceptions of the program propagate, including SystemExit."""
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
        # The interpreter prints the traceback and sets the exit status, also that of SIGINT for
        # KeyboardInterrupt.
        sys.excepthook = _without_our_frames(sys.excepthook)
        raise


def option_parser() -> Parser:
    """Return the parser of the command."""
    parser = Parser(
        "csmtplib run",
        usage="csmtplib run SCRIPT [ARGUMENT ...]\n       csmtplib run -m MODULE [ARGUMENT ...]",
        description=_DESCRIPTION,
    )
    parser.add_argument(
        "-m", action="store_true", dest="module", help="run a module, like python -m"
    )
    parser.add_argument(
        "program",
        metavar="SCRIPT",
        help="file, or directory or zip file with a __main__.py",
    )
    parser.add_argument(
        "arguments", nargs=argparse.REMAINDER, metavar="ARGUMENT", help="arguments of the program"
    )
    return parser


def _become_main() -> None:
    """Give the program a __main__ of its own. It stays: threads and exit handlers outlive us."""
    module = ModuleType("__main__")
    vars(module)["__builtins__"] = builtins
    if sys.version_info < (3, 14):
        vars(module)["__annotations__"] = {}
    sys.modules["__main__"] = module


def _run_module(name: str, arguments: list[str]) -> None:
    sys.argv[:] = ["-m", *arguments]
    if _has_own_directory():
        sys.path[0] = os.getcwd()
    # This is what `python -m` calls; runpy.run_module() would remove __main__ at the end.
    runpy._run_module_as_main(name)  # type: ignore[attr-defined]


def _run_directory(path: str, arguments: list[str]) -> None:
    sys.argv[:] = [path, *arguments]
    # Python's -P omits the directory of a script, but not this one.
    sys.path[: 1 if _has_own_directory() else 0] = [os.path.abspath(path)]
    runpy._run_module_as_main("__main__", False)  # type: ignore[attr-defined]


def _run_script(script: str, arguments: list[str]) -> None:
    sys.argv[:] = [script, *arguments]
    path = os.path.abspath(script)
    is_bytecode = script.endswith(".pyc")
    loader = (SourcelessFileLoader if is_bytecode else SourceFileLoader)("__main__", path)
    try:
        data = loader.get_data(path)
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
        code = compile(data, path, "exec", dont_inherit=True)
    namespace = vars(sys.modules["__main__"])
    namespace.update(__file__=path, __cached__=None, __loader__=loader)
    exec(code, namespace)


def _has_own_directory() -> bool:
    """Return whether sys.path[0] is our own directory, to be replaced by that of the program."""
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
