"""Personal messages from a template and a table of recipients.

from csmtplib.compose import Campaign, Letter, read_rows
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .addresses import verp as verp
    from .campaign import Campaign as Campaign
    from .letter import Letter as Letter
    from .rows import Row as Row
    from .rows import RowError as RowError
    from .rows import read_rows as read_rows
    from .template import TemplateError as TemplateError

# A table can be read without Jinja2, which letters need.
_WHERE = {
    "Campaign": "campaign",
    "Letter": "letter",
    "Row": "rows",
    "RowError": "rows",
    "TemplateError": "template",
    "read_rows": "rows",
    "verp": "addresses",
}


def __getattr__(name: str) -> object:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f".{_WHERE[name]}", __name__), name)


__all__ = ["Campaign", "Letter", "Row", "RowError", "TemplateError", "read_rows", "verp"]
