"""fastpath.py: whether a call may leave the stdlib's call graph."""

from __future__ import annotations

from typing import Any

import pytest

import csmtplib
from csmtplib.fastpath import is_overridden

CLASSES = [csmtplib.SMTP, csmtplib.SMTP_SSL, csmtplib.LMTP]
METHODS = ["send", "putcmd", "getreply", "docmd", "mail", "rcpt", "data", "rset", "close"]
MORE_METHODS = ["_rset", "has_extn", "_get_socket", "_print_debug"]


@pytest.mark.parametrize("smtp_class", CLASSES)
def test_classes_of_ours(smtp_class: Any) -> None:
    assert not is_overridden(smtp_class(), *METHODS, *MORE_METHODS)


@pytest.mark.parametrize("smtp_class", CLASSES)
@pytest.mark.parametrize("name", METHODS + MORE_METHODS)
def test_method_of_one_object(smtp_class: Any, name: str) -> None:
    smtp = smtp_class()
    setattr(smtp, name, getattr(smtp, name))
    assert is_overridden(smtp, name)
    assert is_overridden(smtp, *METHODS, *MORE_METHODS)
    assert not is_overridden(smtp_class(), name)
    delattr(smtp, name)
    assert not is_overridden(smtp, name)


@pytest.mark.parametrize("name", METHODS + MORE_METHODS)
def test_method_of_the_class(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    smtp = csmtplib.SMTP()
    monkeypatch.setattr(csmtplib.SMTP, name, lambda *arguments: None)
    assert is_overridden(smtp, name)
    monkeypatch.undo()
    assert not is_overridden(smtp, name)


def test_method_of_a_subclass() -> None:
    class Subclass(csmtplib.SMTP):
        def send(self, s: Any) -> None:
            super().send(s)

    assert is_overridden(Subclass(), "send")
    assert not is_overridden(Subclass(), "rcpt")


def test_method_of_a_class_beside() -> None:
    class Mixin:
        def send(self, s: Any) -> None: ...

    class Subclass(Mixin, csmtplib.SMTP):
        pass

    assert is_overridden(Subclass(), "send")


def test_subclass_that_changes_nothing() -> None:
    class Subclass(csmtplib.LMTP):
        """With a method of its own, which nobody else calls."""

        def send_greetings(self) -> None: ...

    assert not is_overridden(Subclass(), *METHODS)


def test_methods_of_two_classes_of_ours() -> None:
    """Each is known, and what they are together is not."""

    class Mixed(csmtplib.LMTP):
        mail = csmtplib.SMTP.mail

    assert not is_overridden(Mixed(), "mail")
    assert not is_overridden(Mixed(), "rcpt")
    assert is_overridden(Mixed(), "mail", "rcpt")


def test_method_that_is_put_back() -> None:
    smtp: Any = csmtplib.SMTP()
    smtp.mail = smtp.mail
    assert is_overridden(smtp, "mail")
    del smtp.mail
    assert not is_overridden(smtp, "mail")


def test_other_attributes_of_an_object() -> None:
    smtp: Any = csmtplib.SMTP()
    smtp.sent = 0
    smtp.sock = object()
    smtp.timeout = 5
    assert not is_overridden(smtp, *METHODS, *MORE_METHODS)


def test_attribute_that_hides_a_method_of_the_class_beside() -> None:
    class Subclass(csmtplib.SMTP):
        def __getattribute__(self, name: str) -> Any:
            return super().__getattribute__(name)

    # Whoever goes to such lengths is on his own, but is not in the way.
    assert not is_overridden(Subclass(), *METHODS)


def test_method_of_a_class_that_is_changed_between_calls() -> None:
    class Subclass(csmtplib.SMTP):
        pass

    smtp = Subclass()
    assert not is_overridden(smtp, "send")
    Subclass.send = lambda self, s: None  # type: ignore[method-assign]
    assert is_overridden(smtp, "send")
    del Subclass.send
    assert not is_overridden(smtp, "send")
