"""The directive `{command}`: what a command of csmtplib prints for --help, as it does today."""

from __future__ import annotations

import os
import subprocess
import sys

from docutils import nodes
from docutils.parsers.rst import Directive
from sphinx.application import Sphinx
from sphinx.util.typing import ExtensionMetadata


def manual(command: str) -> str:
    """What `csmtplib COMMAND --help` prints, of csmtplib itself for ""."""
    return subprocess.run(
        [sys.executable, "-m", "csmtplib", *command.split(), "--help"],
        # Python 3.14 has colours there.
        env=os.environ | {"COLUMNS": "80", "NO_COLOR": "1", "PYTHON_COLORS": "0"},
        check=True,
        capture_output=True,
        text=True,
    ).stdout


class Command(Directive):
    """`{command} bulk` shows the manual of `csmtplib bulk`."""

    optional_arguments = 1

    def run(self) -> list[nodes.Node]:
        """The nodes in the place of the directive."""
        text = manual(self.arguments[0] if self.arguments else "")
        return [nodes.literal_block(text, text, language="none")]


def setup(app: Sphinx) -> ExtensionMetadata:
    """Called by Sphinx."""
    app.add_directive("command", Command)
    return {"parallel_read_safe": True}
