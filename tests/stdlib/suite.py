"""Runs CPython's own tests of smtplib in a process of its own, and writes down how each ended.

    python suite.py MODULE PATCHING OUTCOMES

MODULE is what the tests import as smtplib: "smtplib" or "csmtplib". PATCHING is what patches the
standard library before that: "none", "gevent" or "eventlet". OUTCOMES is the file to write: a JSON
object of test ids, each "passed", "failed" or "skipped".
"""

from __future__ import annotations

import faulthandler
import json
import sys
import unittest
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

TESTS = ["test.test_smtplib", "test.test_logging.SMTPHandlerTest"]
PATCHES = {"gevent": ("gevent.monkey", "patch_all"), "eventlet": ("eventlet", "monkey_patch")}
HANGS_AFTER_SECONDS = 100


def test_ids(suite: unittest.TestSuite) -> Iterator[str]:
    for each in suite:
        if isinstance(each, unittest.TestSuite):
            yield from test_ids(each)
        else:
            yield each.id()


def main(module: str, patching: str, outcomes_file: str) -> None:
    # Says where it hangs, which being killed from outside would not.
    faulthandler.dump_traceback_later(HANGS_AFTER_SECONDS, exit=True)
    if patching != "none":
        patching_module, function = PATCHES[patching]
        getattr(import_module(patching_module), function)()
        # It waits for the system's threads to end: there are none, and Python 3.10's takes seconds
        # after each test to see that.
        threading_helper: Any = import_module("test.support.threading_helper")
        threading_helper.threading_cleanup = lambda *_: None
    if module == "csmtplib":
        import csmtplib

        csmtplib.install()
    suite = unittest.defaultTestLoader.loadTestsFromNames(TESTS)
    tested = sys.modules["test.test_smtplib"].smtplib.__name__
    assert tested == module, f"the tests would test {tested}"
    # A suite forgets its tests as they end.
    outcomes = dict.fromkeys(test_ids(suite), "passed")
    result = unittest.TextTestRunner().run(suite)
    outcomes.update((test.id(), "skipped") for test, _ in result.skipped)
    outcomes.update((test.id(), "failed") for test, _ in [*result.failures, *result.errors])
    Path(outcomes_file).write_text(json.dumps(outcomes), "utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
