"""The messages of a plan, made one by one: from a template and tables, or from files."""

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
from ..bulk.keys import KeySet
from ..compose.rows import RowError, columns, read_rows
from ..protocol import limits
from ..protocol.envelope import mailbox_key, strict_path
from ..protocol.mail_object import MailObject, Unsendable
from . import sources
from .addressing import Addressing, without_bcc
from .conventions import Exit, Failure, missing_package
from .duplicates import find, fold, scan
from .plan import Plan, is_table

if TYPE_CHECKING:
    from ..compose.campaign import Campaign
    from ..compose.letter import Letter


class Fault(NamedTuple):
    """Why there is no job for a row or a message, and where it is ("file:line", or its file).
    unreadable: whether the file of a message can't be read. ends_table: whether no row after it
    could be read."""

    where: str
    reason: str
    unreadable: bool = False
    ends_table: bool = False


Item: TypeAlias = "Job | Fault"


@dataclass(frozen=True, slots=True)
class Messages:
    """The jobs of a plan. They can be iterated over repeatedly, and are the same each time.

    count: the number of rows or messages, without skipped duplicates; None if that requires reading
    all of them. remarks: warnings about the plan, to be reported before anything is sent.
    """

    plan: Plan
    count: int | None
    remarks: list[str]
    _campaign: Campaign | None
    _repeated: KeySet | None

    def __iter__(self) -> Iterator[Item]:
        """Yield each job, or the fault in its place. Raises Failure if a file can't be read."""
        return (item for item in itertools.islice(self._all(), self.plan.limit) if item is not None)

    def _all(self) -> Iterator[Item | None]:
        """Yield each item, and None for a duplicate."""
        if self._campaign is None:
            for name in self.plan.sources:
                yield from _of_files(self.plan, name)
            return
        repeated = self._repeated if self.plan.duplicates == "skip" else None
        made = KeySet()
        for name in self.plan.sources:
            for item in _of_rows(self.plan, name, self._campaign):
                if repeated is None or isinstance(item, Fault):
                    yield item
                    continue
                address = item.mail.to_addrs
                assert isinstance(address, str)
                # The first row that a letter can be made from gets it.
                is_again = fold(address) in repeated and not made.add(mailbox_key(address))
                yield None if is_again else item


def messages(plan: Plan) -> Messages:
    """Compile the template of a plan, check its files, and return its messages.

    Raises Failure for an invalid template, a table that is invalid or has no rows, and files that
    can't be read.
    """
    if plan.template is None:
        for name in plan.sources:
            _require_file(plan, name)
        return Messages(plan, None, [], None, None)
    for name in plan.sources:
        _require_table(plan, name)
    campaign, remarks = _campaign(plan)
    try:
        found = scan(plan)
        if not found.count:
            raise Failure(Exit.DATAERR, f"{', '.join(plan.sources)}: no recipients")
        count = found.count
        if found.repeated is not None:
            duplicates = find(plan, found.repeated)
            remarks += duplicates.lines
            count -= duplicates.count if plan.duplicates == "skip" else 0
    except OSError as error:
        raise _unreadable(error.filename, error) from error
    return Messages(plan, count, remarks, campaign, found.repeated)


def _require_table(plan: Plan, name: str) -> None:
    _require_file(plan, name)
    try:
        # An error in the first line concerns the whole table.
        next(read_rows(plan.path(name), address_column=plan.address_column), None)
    except RowError as error:
        raise Failure(Exit.DATAERR, f"{name}:{error.line}: {error.message}") from error
    except OSError as error:
        raise _unreadable(name, error) from error


def _campaign(plan: Plan) -> tuple[Campaign, list[str]]:
    """Return the campaign of a plan, and warnings about its letter."""
    assert plan.template is not None
    try:
        from ..compose.campaign import Campaign
        from ..compose.letter import Letter
    except ImportError as error:
        raise missing_package("--template", "jinja2", "cli") from error
    html = None if plan.html is None else plan.path(plan.html)
    try:
        letter = Letter(plan.path(plan.template), html)
        campaign = Campaign(
            letter=letter,
            sender=_author(letter) if plan.sender is None else plan.sender,
            id=plan.id,
            date=plan.date,
            verp=plan.verp,
            list_unsubscribe=plan.list_unsubscribe,
        )
        return campaign, _remarks(plan, letter)
    except OSError as error:
        raise _unreadable(error.filename or plan.template, error) from error
    except ValueError as error:
        raise Failure(Exit.DATAERR, str(error)) from error


def _remarks(plan: Plan, letter: Letter) -> list[str]:
    """Check a letter against each table, and return warnings. Raises Failure for errors."""
    remarks: dict[str, None] = {}
    for name in plan.sources:
        names, all_rows = columns(plan.path(name), address_column=plan.address_column)
        try:
            remarks |= dict.fromkeys(letter.check(names, all_rows=all_rows))
        except ValueError as error:
            which = f" ({name})" if len(plan.sources) > 1 else ""
            raise Failure(Exit.DATAERR, f"{error}{which}") from error
    return [f"warning: {remark}" for remark in remarks]


def _author(letter: Letter) -> str:
    """Return the address in From. Raises Failure unless it is the same in all messages."""
    field = next(field for field in letter.fields if field.name.lower() == "from")
    if not field.constant:
        raise Failure(Exit.USAGE, "From is not the same in all messages: give a sender with --from")
    return parseaddr(field.data({}).decode().partition(":")[2].strip())[1]


def _of_rows(plan: Plan, name: str, campaign: Campaign) -> Iterator[Item]:
    try:
        for row in read_rows(plan.path(name), address_column=plan.address_column):
            try:
                if isinstance(row, RowError):
                    raise row
                job = campaign.job(name, row)
            except RowError as error:
                yield Fault(f"{name}:{error.line}", error.message, ends_table=error.ends_table)
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
                # Mail programs move a message and add flags; the rest of its name is stable.
                file = os.path.basename(mail.origin).partition(":")[0]
                key = os.path.join(name, file)
            else:
                key = name + mail.origin[len(path) :]
            try:
                data = mail.data()
                envelope = addressing.envelope(data)
                content = without_bcc(data)
                _check(envelope.sender, envelope.recipients, content)
            except OSError as error:
                yield Fault(key, error.strerror or str(error), unreadable=True)
            except ValueError as error:
                yield Fault(key, str(error))
            else:
                yield Job(key, MailObject(envelope.sender, envelope.recipients, content))


def _check(sender: str, recipients: object, content: bytes) -> None:
    """Raise ValueError for a message that must not be sent to any server."""
    assert isinstance(recipients, list)
    for address in (sender, *recipients):
        strict_path(address)
    longest, has_nul, _ = kernel.scan(content)
    if has_nul:
        raise Unsendable("the message contains a NUL byte, which SMTP does not allow")
    if longest > limits.MESSAGE_LINE_BYTES:
        raise Unsendable(
            f"a line of the message is longer than {limits.MESSAGE_LINE_BYTES} bytes: encode its "
            "part as quoted-printable or base64"
        )


def _require_file(plan: Plan, name: str) -> None:
    try:
        # stat() gets the name itself: "file/" is not a file.
        mode = os.stat(plan.path(name)).st_mode
    except OSError as error:
        raise _unreadable(name, error) from error
    if not (stat.S_ISREG(mode) or (stat.S_ISDIR(mode) and not is_table(name))):
        raise Failure(
            Exit.NOINPUT, f"{name}: not a regular file; it must be, as it is read more than once"
        )


def _unreadable(name: object, error: OSError) -> Failure:
    return Failure(Exit.NOINPUT, f"{name}: {error.strerror or error}")
