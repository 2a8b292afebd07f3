"""The messages of a plan, made one by one: of a template and tables, or as they stand in files."""

from __future__ import annotations

import io
import itertools
import os
import stat
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from email.utils import parseaddr
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from .. import kernel
from ..bulk.delivery import Job
from ..protocol import limits
from ..protocol.envelope import strict_path
from ..protocol.mail_object import MailObject, Unsendable
from . import sources
from .addressing import Addressing, without_bcc
from .conventions import Exit, Failure, lacking
from .plan import Plan, is_table

if TYPE_CHECKING:
    from ..compose.campaign import Campaign
    from ..compose.letter import Letter


class Fault(NamedTuple):
    """Why there is no job for a row or a message, and where that is ("file:line", or its file)."""

    where: str
    reason: str
    unreadable: bool = False


Item: TypeAlias = "Job | Fault"


@dataclass(frozen=True, slots=True)
class Messages:
    """The jobs of a plan. They can be made as often as is wanted, and are the same each time.

    count: how many rows or messages there are, None where that takes a reading of all.
    """

    plan: Plan
    count: int | None
    _campaign: Campaign | None

    def __iter__(self) -> Iterator[Item]:
        """Each job, or the fault in its place. Raises Failure where a file can't be read."""
        return itertools.islice(self._all(), self.plan.limit)

    def _all(self) -> Iterator[Item]:
        for name in self.plan.sources:
            if self._campaign is None:
                yield from _of_files(self.plan, name)
            else:
                yield from _of_rows(self.plan, name, self._campaign)


def messages(plan: Plan) -> Messages:
    """The messages of a plan, its template compiled and its files looked at.

    Raises Failure for what is no template, what is no table, and files that can't be read.
    """
    if plan.template is None:
        for name in plan.sources:
            _require_file(plan, name)
        return Messages(plan, None, None)
    return Messages(plan, _count(plan), _campaign(plan))


def _count(plan: Plan) -> int:
    from ..compose import rows

    count = 0
    for name in plan.sources:
        _require_file(plan, name)
        path = plan.path(name)
        try:
            # What is wrong with the first line is wrong with the table.
            next(rows.read_rows(path, address_column=plan.address_column), None)
            count += rows.count_rows(path)
        except rows.RowError as error:
            raise Failure(Exit.DATAERR, f"{name}:{error.line}: {error.message}") from error
        except OSError as error:
            raise _unreadable(name, error) from error
    return count if plan.limit is None else min(count, plan.limit)


def _campaign(plan: Plan) -> Campaign:
    assert plan.template is not None
    try:
        from ..compose.campaign import Campaign
        from ..compose.letter import Letter
    except ImportError as error:
        raise lacking("--template", "jinja2") from error
    html = None if plan.html is None else plan.path(plan.html)
    try:
        letter = Letter(plan.path(plan.template), html)
        return Campaign(
            letter=letter,
            sender=_author(letter) if plan.sender is None else plan.sender,
            id=plan.id,
            date=plan.date,
            verp=plan.verp,
            list_unsubscribe=plan.list_unsubscribe,
        )
    except OSError as error:
        raise _unreadable(error.filename or plan.template, error) from error
    except ValueError as error:
        raise Failure(Exit.DATAERR, str(error)) from error


def _author(letter: Letter) -> str:
    """The address in From, which is to be the same in all messages."""
    field = next(field for field in letter.fields if field.name.lower() == "from")
    if not field.constant:
        raise Failure(Exit.USAGE, "From is not the same in all messages: give a sender by --from")
    return parseaddr(field.octets({}).decode().partition(":")[2].strip())[1]


def _of_rows(plan: Plan, name: str, campaign: Campaign) -> Iterator[Item]:
    from ..compose.rows import RowError, read_rows

    try:
        for row in read_rows(plan.path(name), address_column=plan.address_column):
            try:
                if isinstance(row, RowError):
                    raise row
                job = campaign.job(name, row)
            except RowError as error:
                yield Fault(f"{name}:{error.line}", error.message)
            else:
                yield job
    except OSError as error:
        raise _unreadable(name, error) from error


def _of_files(plan: Plan, name: str) -> Iterator[Item]:
    addressing = Addressing(plan.sender, (), False)
    path = plan.path(name)
    with ExitStack() as resources:
        (source,) = sources.open_all([path], io.BytesIO(), resources)
        for mail in source.mails:
            if os.path.isdir(path):
                # Mail programs move a message and add flags; the rest of its name stays.
                file = os.path.basename(mail.origin).partition(":")[0]
                key = os.path.join(name, file)
            else:
                key = name + mail.origin[len(path) :]
            try:
                octets = mail.octets()
                envelope = addressing.envelope(octets)
                content = without_bcc(octets)
                _check(envelope.sender, envelope.recipients, content)
            except OSError as error:
                yield Fault(key, error.strerror or str(error), unreadable=True)
            except ValueError as error:
                yield Fault(key, str(error))
            else:
                yield Job(key, MailObject(envelope.sender, envelope.recipients, content))


def _check(sender: str, recipients: object, content: bytes) -> None:
    """Raises ValueError for a message that no server is to be sent."""
    assert isinstance(recipients, list)
    for address in (sender, *recipients):
        strict_path(address)
    longest, has_nul, _ = kernel.survey(content)
    if has_nul:
        raise Unsendable("the message holds a NUL octet, which SMTP does not carry")
    if longest > limits.MESSAGE_LINE_OCTETS:
        raise Unsendable(
            f"a line of the message is longer than {limits.MESSAGE_LINE_OCTETS} octets: encode its "
            "part as quoted-printable or base64"
        )


def _require_file(plan: Plan, name: str) -> None:
    try:
        # Of the name as it is: "file/" is no file.
        mode = os.stat(plan.path(name)).st_mode
    except OSError as error:
        raise _unreadable(name, error) from error
    if not (stat.S_ISREG(mode) or (stat.S_ISDIR(mode) and not is_table(name))):
        raise Failure(Exit.NOINPUT, f"{name}: no file; it is read more than once")


def _unreadable(name: object, error: OSError) -> Failure:
    return Failure(Exit.NOINPUT, f"{name}: {error.strerror or error}")
