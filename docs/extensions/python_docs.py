"""Links to Python's own documentation, by intersphinx, without a network.

The whole inventory of docs.python.org would have to be downloaded for each build, which fails
offline. This one has the names that occur here; Sphinx warns if one is missing.
"""

from __future__ import annotations

import zlib
from pathlib import Path

from sphinx.application import Sphinx
from sphinx.config import Config
from sphinx.util.typing import ExtensionMetadata

SITE = "https://docs.python.org/3"

# The page of the library that documents a name. In signatures, classes are named as in the modules
# that import them.
PAGES = {
    "constants": ["None"],
    "functions": ["bool", "float", "int", "object"],
    "stdtypes": ["bytearray", "bytes", "dict", "list", "memoryview", "str", "tuple"],
    "collections.abc": [
        f"collections.abc.{name}"
        for name in (
            "AsyncGenerator",
            "AsyncIterable",
            "AsyncIterator",
            "Awaitable",
            "Buffer",
            "Callable",
            "Container",
            "Generator",
            "Iterable",
            "Iterator",
            "Mapping",
            "Sequence",
        )
    ],
    "datetime": ["datetime.datetime"],
    "email.compat32-message": ["email.message.Message"],
    "email.message": ["email.message.EmailMessage"],
    "mimetypes": ["mimetypes.guess_type"],
    "os": ["os.PathLike"],
    "smtplib": [
        f"smtplib.{name}"
        for name in (
            "SMTPAuthenticationError",
            "SMTPConnectError",
            "SMTPDataError",
            "SMTPException",
            "SMTPHeloError",
            "SMTPNotSupportedError",
            "SMTPRecipientsRefused",
            "SMTPResponseException",
            "SMTPSenderRefused",
            "SMTPServerDisconnected",
        )
    ],
    "socket": ["socket.socket"],
    "ssl": ["ssl.SSLContext"],
    "typing": ["typing.Any", "typing.Literal"],
}


def inventory() -> bytes:
    """Return the inventory, in version 2 of Sphinx's format."""
    head = "# Sphinx inventory version 2\n# Project: Python\n# Version: 3\n"
    lines = []
    for page, names in PAGES.items():
        for name in names:
            kind = "function" if name.startswith("mimetypes.") else "class"
            for shown in {name, name.rpartition(".")[2]}:
                lines.append(f"{shown} py:{kind} 1 library/{page}.html#{name} -\n")
    packed = zlib.compress("".join(lines).encode())
    return f"{head}# The remainder of this file is compressed using zlib.\n".encode() + packed


def write(app: Sphinx, config: Config) -> None:
    """Write the inventory to where intersphinx reads it."""
    file = Path(app.doctreedir) / "python.inv"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(inventory())
    config.intersphinx_mapping = {"python": (SITE, str(file))}


def setup(app: Sphinx) -> ExtensionMetadata:
    """Called by Sphinx."""
    app.setup_extension("sphinx.ext.intersphinx")
    # Before intersphinx looks at its mapping.
    app.connect("config-inited", write, priority=100)
    return {"parallel_read_safe": True}
