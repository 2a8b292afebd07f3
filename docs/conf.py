"""How Sphinx makes the documentation: python -m sphinx -W --keep-going -b html docs build/docs"""

from __future__ import annotations

import sys
from pathlib import Path

import csmtplib

sys.path.insert(0, str(Path(__file__).parent / "extensions"))

project = "csmtplib"
version = release = csmtplib.__version__
# The licence names who holds the copyright.
project_copyright = "the csmtplib authors"

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx_copybutton",
    "commands",
    "docstrings",
    "python_docs",
]
exclude_patterns = ["extensions"]
nitpicky = True
# "c" and "python" are values, not quotations.
smartquotes = False

# csmtplib(1), by -b man: what the commands print for --help.
man_pages = [("commands", "csmtplib", "send mail from the command line", "", 1)]

html_theme = "furo"
html_title = f"csmtplib {release}"
html_show_sphinx = False
html_copy_source = False
html_static_path = ["static"]
html_css_files = ["wide.css"]
# For the links to view and edit a page.
html_theme_options = {
    "source_repository": "https://github.com/csmtplib/csmtplib/",
    "source_branch": "main",
    "source_directory": "docs/",
}

# Code and files can be copied, without prompts and outputs; what a command prints can't.
copybutton_selector = ", ".join(
    f"div.{name} pre"
    for name in ("highlight-python", "highlight-pycon", "highlight-sh", "literal-block-wrapper")
)
copybutton_exclude = ".linenos, .gp, .go"

# Deep enough for links to the headings of other pages.
myst_heading_anchors = 3
myst_enable_extensions = ["deflist"]

# In docstrings, which are plain text, `this` is code.
default_role = "literal"
autoclass_content = "both"
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
python_maximum_signature_line_length = 72
