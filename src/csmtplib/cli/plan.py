"""The plan of a campaign: its recipients and messages, and how a journal records it."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from datetime import datetime, timezone
from typing import Any
from urllib.parse import urlsplit

from csmtplib import __version__

from .conventions import Exit, Failure
from .destination import SINK

_CHUNK = 1 << 20

# The suffixes of tables of recipients. Anything else contains messages.
_TABLES = (".csv", ".tsv", ".jsonl", ".ndjson")


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that determines the messages of a campaign: the same plan and files give the same
    bytes.

    directory: file names are relative to it. sources: tables of recipients with a template,
    or messages without one. duplicates: whether a row whose address had a letter gets another one
    ("send") or not ("skip"). id: identifies the campaign in its Message-IDs. date: the Date of all
    its messages. limit: the maximum number of rows or messages.
    """

    directory: str
    sources: tuple[str, ...]
    server: str
    sender: str | None
    template: str | None
    html: str | None
    address_column: str | None
    list_unsubscribe: str | None
    verp: bool
    errors: str
    duplicates: str
    limit: int | None
    id: str
    date: datetime

    def path(self, name: str) -> str:
        """Return the path of a file of the plan."""
        return os.path.join(self.directory, name)

    def files(self) -> Iterator[str]:
        """Yield the names of the files whose content is part of the plan."""
        for name in (*self.sources, self.template, self.html):
            # Mail programs may change a Maildir at any time.
            if name is not None and not os.path.isdir(self.path(name)):
                yield name


def new_id() -> str:
    """Return a unique id for a campaign."""
    return secrets.token_hex(8)


def now() -> datetime:
    """Return the date of a campaign that starts now, without fractions of a second, which header
    fields don't have."""
    return datetime.now(timezone.utc).astimezone().replace(microsecond=0)


def is_table(name: str) -> bool:
    """Return whether a source contains recipients, not messages."""
    return name.lower().endswith(_TABLES)


def _recorded(url: str) -> str:
    """Return a valid server URL in the form for a journal: without password, and with an absolute
    path of a sink."""
    if url.startswith(SINK):
        return f"{SINK}{os.path.abspath(url.removeprefix(SINK))}"
    parts = urlsplit(url)
    userinfo, at, host = parts.netloc.rpartition("@")
    return parts._replace(netloc=f"{userinfo.partition(':')[0]}{at}{host}").geturl()


def to_parameters(plan: Plan, total: int | None, run: Mapping[str, Any]) -> dict[str, str]:
    """Return a plan, the number of its recipients, if known, and the options of its run in the form
    for a journal. Raises Failure if a file can't be read."""
    parameters = {
        "version": __version__,
        "run": json.dumps(run),
        "files": json.dumps({plan.path(name): _sha256(plan.path(name)) for name in plan.files()}),
    }
    for field in fields(plan):
        value = getattr(plan, field.name)
        if isinstance(value, datetime):
            value = value.isoformat()
        if value is not None:
            parameters[field.name] = value if isinstance(value, str) else json.dumps(value)
    if total is not None:
        parameters["total"] = json.dumps(total)
    parameters["server"] = _recorded(plan.server)
    return parameters


def is_of_campaign(parameters: Mapping[str, str]) -> bool:
    """Return whether they come from to_parameters(), of any version."""
    return {"version", "run", "files"} <= parameters.keys()


def from_parameters(parameters: Mapping[str, str]) -> tuple[Plan, int | None, dict[str, Any]]:
    """Return what to_parameters() was given, except for the password of the server.

    Raises Failure if a file has changed, and for parameters that this version can't read.
    """
    try:
        plan = Plan(
            directory=parameters["directory"],
            sources=tuple(json.loads(parameters["sources"])),
            server=parameters["server"],
            sender=parameters.get("sender"),
            template=parameters.get("template"),
            html=parameters.get("html"),
            address_column=parameters.get("address_column"),
            list_unsubscribe=parameters.get("list_unsubscribe"),
            verp=json.loads(parameters["verp"]),
            errors=parameters["errors"],
            # Journals without it are from versions that always sent duplicates.
            duplicates=parameters.get("duplicates", "send"),
            limit=json.loads(parameters.get("limit", "null")),
            id=parameters["id"],
            date=datetime.fromisoformat(parameters["date"]),
        )
        total = json.loads(parameters.get("total", "null"))
        run = json.loads(parameters["run"])
        files = json.loads(parameters["files"])
    except (KeyError, ValueError) as error:
        version = parameters.get("version", "unknown")
        raise Failure(
            Exit.DATAERR,
            f"csmtplib {__version__} can't resume the campaign in this journal: it was written by "
            f"version {version}",
        ) from error
    for path, digest in files.items():
        if _sha256(path) != digest:
            raise Failure(
                Exit.DATAERR,
                f"{path} has changed since the campaign was started: restore it, or start a new "
                "campaign with a new journal",
            )
    return plan, total, run


def _sha256(path: str) -> str:
    digest = hashlib.sha256()
    try:
        with open(path, "rb") as file:
            while data := file.read(_CHUNK):
                digest.update(data)
    except OSError as error:
        raise Failure(Exit.NOINPUT, f"{path}: {error.strerror or error}") from error
    return digest.hexdigest()
