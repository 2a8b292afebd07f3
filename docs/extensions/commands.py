"""The directive `{command}`: what a command of csmtplib prints for --help, as it does today, where
each option has an address."""

from __future__ import annotations

import argparse
import importlib
import re
from collections.abc import Iterator

from docutils import nodes
from docutils.parsers.rst import Directive
from docutils.statemachine import StringList
from sphinx.application import Sphinx
from sphinx.util.typing import ExtensionMetadata

# What Markdown would take for more than text.
_MARKUP = re.compile(r"([\\`*_{}\[\]<>#|$~])")


class Command(Directive):
    """`{command} bulk` is the manual of `csmtplib bulk`, without a name that of csmtplib."""

    optional_arguments = 1

    def run(self) -> list[nodes.Node]:
        """The nodes in the place of the directive."""
        module = self.arguments[0] if self.arguments else "main"
        parser = importlib.import_module(f"csmtplib.cli.{module}").option_parser()
        found: list[nodes.Node] = [_literal(f"{parser.format_usage()}\n{parser.description}")]
        options = nodes.container()
        self.state.nested_parse(StringList(list(_options(parser)), self.name), 0, options)
        found += options.children
        if parser.epilog:
            found.append(_literal(parser.epilog))
        return found


def _literal(text: str) -> nodes.literal_block:
    text = text.rstrip("\n")
    return nodes.literal_block(text, text, language="none")


def _options(parser: argparse.ArgumentParser) -> Iterator[str]:
    """Markdown for the options, group by group."""
    # Python 3.14 has colours there.
    formatter = argparse.HelpFormatter(parser.prog, width=80)
    yield from (f"```{{program}} {parser.prog}", "```")
    for group in parser._action_groups:
        shown = [each for each in group._group_actions if each.help != argparse.SUPPRESS]
        if shown:
            yield from ("", f"```{{rubric}} {group.title}", "```")
        for each in shown:
            yield from ("", f"```{{option}} {formatter._format_action_invocation(each)}")
            yield from (_MARKUP.sub(r"\\\1", formatter._expand_help(each)), "```")


def setup(app: Sphinx) -> ExtensionMetadata:
    """Called by Sphinx."""
    app.add_directive("command", Command)
    return {"parallel_read_safe": True}
