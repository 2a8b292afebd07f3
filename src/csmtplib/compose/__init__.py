"""Personal messages from a template and a table of recipients.

from csmtplib.compose import Campaign, Letter, read_rows
"""

from __future__ import annotations

from .. import lazy

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

__getattr__ = lazy.attributes(__name__, _WHERE)


__all__ = ["Campaign", "Letter", "Row", "RowError", "TemplateError", "read_rows", "verp"]
