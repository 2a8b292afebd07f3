"""What a campaign is: its recipients and messages, and how the journal keeps that."""

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

# What a table of recipients is named like. Anything else holds messages.
_TABLES = (".csv", ".tsv", ".jsonl", ".ndjson")


@dataclass(frozen=True, slots=True)
class Plan:
    """What shapes the messages of a campaign: with the same plan, and the same files, the same
    octets come out.

    directory: where names of files start from. sources: tables of recipients with a template, or
    messages without one. id: names the campaign in its Message-IDs. date: of all its messages.
    limit: how many rows or messages there are at most.
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
    limit: int | None
    id: str
    date: datetime

    def path(self, name: str) -> str:
        """Where a file of the plan is."""
        return os.path.join(self.directory, name)

    def files(self) -> Iterator[str]:
        """The files whose content is a part of the plan, by name."""
        for name in (*self.sources, self.template, self.html):
            # A Maildir's mail programs may touch it at any time.
            if name is not None and not os.path.isdir(self.path(name)):
                yield name


def new_id() -> str:
    """An id for a campaign that no other has."""
    return secrets.token_hex(8)


def now() -> datetime:
    """The date of a campaign that starts now; header fields know no fractions of a second."""
    return datetime.now(timezone.utc).astimezone().replace(microsecond=0)


def is_table(name: str) -> bool:
    """Whether a source holds recipients, and no messages."""
    return name.lower().endswith(_TABLES)


def _recorded(url: str) -> str:
    """A server URL that is right, without what must not be in a file, nor depend on where it is
    read."""
    if url.startswith(SINK):
        return f"{SINK}{os.path.abspath(url.removeprefix(SINK))}"
    parts = urlsplit(url)
    userinfo, at, host = parts.netloc.rpartition("@")
    return parts._replace(netloc=f"{userinfo.partition(':')[0]}{at}{host}").geturl()


def to_parameters(plan: Plan, total: int | None, run: Mapping[str, Any]) -> dict[str, str]:
    """A plan, how many recipients it has, if that is known, and the options of its run, as a
    journal keeps them. Raises Failure where a file can't be read."""
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


def from_parameters(parameters: Mapping[str, str]) -> tuple[Plan, int | None, dict[str, Any]]:
    """What to_parameters() was given, but for the password of the server.

    Raises Failure for files that have changed, and for what no `bulk` of this version has written.
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
            f"the journal holds no campaign that csmtplib {__version__} can resume; it was written "
            f"by version {version}",
        ) from error
    for path, digest in files.items():
        if _sha256(path) != digest:
            raise Failure(
                Exit.DATAERR,
                f"{path} has changed since the campaign was started: put it back as it was, or "
                "start a campaign with a new journal",
            )
    return plan, total, run


def _sha256(path: str) -> str:
    digest = hashlib.sha256()
    try:
        with open(path, "rb") as file:
            while octets := file.read(_CHUNK):
                digest.update(octets)
    except OSError as error:
        raise Failure(Exit.NOINPUT, f"{path}: {error.strerror or error}") from error
    return digest.hexdigest()
