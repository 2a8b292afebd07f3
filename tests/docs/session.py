"""Runs the Python of one page, block after block, in one session: a program of its own.

A line of standard input asks for a block, by a JSON object; a line of standard output answers, by
another one, when it has run.
"""

from __future__ import annotations

import contextlib
import doctest
import io
import json
import os
import sys
import traceback
from typing import Any

Namespace = dict[str, Any]


def run(text: str, file: str, line: int, namespace: Namespace) -> str | None:
    """Runs a program; what it raised, None where it came to its end."""
    try:
        # Its lines are those of the page.
        code = compile("\n" * (line - 1) + text, file, "exec", dont_inherit=True)
        exec(code, namespace)
    except BaseException:
        return traceback.format_exc()
    return None


def compare(text: str, file: str, line: int, namespace: Namespace) -> str | None:
    """Runs an interactive session; where it shows something else than the page, None where it does
    not."""
    test = doctest.DocTestParser().get_doctest(text, namespace, file, file, line - 1)
    told = io.StringIO()
    runner = doctest.DocTestRunner(verbose=False, optionflags=doctest.ELLIPSIS)
    # It copies what it is given, and later blocks are to find what this one makes.
    failed, _ = runner.run(test, out=told.write, clear_globs=False)
    namespace.update(test.globs)
    return told.getvalue() if failed or not test.examples else None


RUNNERS = {"python": run, "pycon": compare}


def main() -> None:
    sys.path[0] = os.getcwd()
    namespace: Namespace = {"__name__": "__main__"}
    answers = sys.stdout
    for line in sys.stdin:
        asked = json.loads(line)
        with io.StringIO() as out:
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
                error = RUNNERS[asked["language"]](
                    asked["text"], asked["file"], asked["line"], namespace
                )
            print(json.dumps({"output": out.getvalue(), "error": error}), file=answers, flush=True)


if __name__ == "__main__":
    main()
