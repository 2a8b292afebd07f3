"""The names of csmtplib are those of the running Python's smtplib, and take what those take."""

from __future__ import annotations

import hashlib
import inspect
import re
import smtplib
import ssl
import sys
from collections.abc import Iterator
from inspect import Parameter, Signature
from types import FunctionType, ModuleType

import pytest

import csmtplib

CLASSES = ["SMTP", "SMTP_SSL", "LMTP"]
# What every module has for itself, such as __file__, is no part of it.
NAMES = [name for name in dir(smtplib) if not name.startswith("__")]
MODULES = [name for name in NAMES if isinstance(getattr(smtplib, name), ModuleType)]
CONSTANTS = [
    name for name in NAMES if isinstance(getattr(smtplib, name), (int, str, bytes, re.Pattern))
]
EXCEPTIONS = [
    name
    for name in NAMES
    if isinstance(getattr(smtplib, name), type) and issubclass(getattr(smtplib, name), Exception)
]
FUNCTIONS = [
    name
    for name in NAMES
    if isinstance(getattr(smtplib, name), FunctionType) and not name.startswith("_")
]
METHODS = [
    (cls, name)
    for cls in CLASSES
    for name in dir(getattr(smtplib, cls))
    # A with statement alone calls __exit__, where the stdlib takes any arguments.
    if isinstance(getattr(getattr(smtplib, cls), name), FunctionType) and name != "__exit__"
]
CLASS_ATTRIBUTES = [
    (cls, name)
    for cls in CLASSES
    for name in dir(getattr(smtplib, cls))
    if not name.startswith("__") and (cls, name) not in METHODS
]


def test_the_lists_above_are_whole() -> None:
    """They are read from the stdlib: tests over a list that came out empty would pass."""
    assert len(EXCEPTIONS) == 10
    assert {"socket", "io", "re", "email", "base64", "hmac", "copy", "datetime"} <= {*MODULES}
    assert {"CRLF", "bCRLF", "_MAXLINE", "OLDSTYLE_AUTH", "_have_ssl"} <= {*CONSTANTS}
    assert {*FUNCTIONS} == {"encode_base64", "quoteaddr", "quotedata"}
    assert {("SMTP", "sendmail"), ("SMTP_SSL", "__init__"), ("LMTP", "connect")} <= {*METHODS}
    assert {("SMTP", "debuglevel"), ("LMTP", "ehlo_msg")} <= {*CLASS_ATTRIBUTES}


def test_all_is_the_stdlibs() -> None:
    assert sorted(csmtplib.__all__) == sorted(smtplib.__all__)


def test_dir_shows_what_smtplib_does_not_have() -> None:
    more = {"DSN", "MailObject", "Outcome", "Result", "State", "implementation", "install"}
    assert more <= {*dir(csmtplib)}
    assert all(hasattr(csmtplib, name) for name in dir(csmtplib))


def test_every_name_is_there() -> None:
    assert [name for name in NAMES if not hasattr(csmtplib, name)] == []


@pytest.mark.parametrize("name", EXCEPTIONS)
def test_exceptions_are_the_stdlibs_own(name: str) -> None:
    """So that a handler which knows only one of the modules catches those of both."""
    assert getattr(csmtplib, name) is getattr(smtplib, name)


@pytest.mark.parametrize("name", MODULES)
def test_modules_reached_through_it_are_the_same(name: str) -> None:
    assert getattr(csmtplib, name) is getattr(smtplib, name)


@pytest.mark.parametrize("name", CONSTANTS)
def test_constants_are_equal(name: str) -> None:
    ours, theirs = getattr(csmtplib, name), getattr(smtplib, name)
    assert (type(ours), ours) == (type(theirs), theirs)


def test_cram_md5_is_there_where_md5_is() -> None:
    """The name is newer than some Pythons."""
    expected = getattr(smtplib, "_have_cram_md5_support", "md5" in hashlib.algorithms_available)
    assert csmtplib._have_cram_md5_support is expected


def calls(signature: Signature) -> Iterator[tuple[list[str], dict[str, str]]]:
    """The ways to call it: with as little as it takes, with all by position, with all by name."""
    parameters = signature.parameters.values()
    required = [each.name for each in parameters if each.default is Parameter.empty]
    yield [f"the {name}" for name in required], {}
    keyword_only = {
        each.name: f"the {each.name}" for each in parameters if each.kind is Parameter.KEYWORD_ONLY
    }
    yield [f"the {name}" for name in signature.parameters if name not in keyword_only], keyword_only
    if not any(each.kind is Parameter.VAR_POSITIONAL for each in parameters):
        yield [], {name: f"the {name}" for name in signature.parameters}


def assert_takes_the_same(ours: Signature, theirs: Signature) -> None:
    for positional, named in calls(theirs):
        our_call = ours.bind(*positional, **named)
        their_call = theirs.bind(*positional, **named)
        our_call.apply_defaults()
        their_call.apply_defaults()
        assert their_call.arguments.items() <= our_call.arguments.items()


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_take_what_the_stdlibs_take(name: str) -> None:
    ours, theirs = getattr(csmtplib, name), getattr(smtplib, name)
    assert_takes_the_same(inspect.signature(ours), inspect.signature(theirs))


@pytest.mark.parametrize(("cls", "name"), METHODS)
def test_methods_take_what_the_stdlibs_take(cls: str, name: str) -> None:
    ours, theirs = getattr(getattr(csmtplib, cls), name), getattr(getattr(smtplib, cls), name)
    assert_takes_the_same(inspect.signature(ours), inspect.signature(theirs))


@pytest.mark.parametrize("function", [csmtplib.SMTP.starttls, csmtplib.SMTP_SSL.__init__])
def test_keyfile_and_certfile_are_taken_on_every_version(function: FunctionType) -> None:
    """By position too: they stand where they stood before Python 3.12."""
    names = list(inspect.signature(function).parameters)
    first = names.index("keyfile")
    assert names[first : first + 2] == ["keyfile", "certfile"]
    assert first == {"starttls": 1, "__init__": 4}[function.__name__]


@pytest.mark.parametrize(("cls", "name"), CLASS_ATTRIBUTES)
def test_class_attributes_are_equal(cls: str, name: str) -> None:
    ours, theirs = getattr(csmtplib, cls), getattr(smtplib, cls)
    assert getattr(ours, name) == getattr(theirs, name)


@pytest.mark.parametrize("cls", CLASSES)
def test_a_new_object_has_the_stdlibs_attributes(cls: str) -> None:
    ours, theirs = getattr(csmtplib, cls)(), getattr(smtplib, cls)()
    for name, value in vars(theirs).items():
        if isinstance(value, ssl.SSLContext):
            assert type(getattr(ours, name)) is type(value)
        else:
            assert getattr(ours, name) == value


def test_has_option_is_has_extn() -> None:
    client = csmtplib.SMTP()
    client.esmtp_features = {"size": "1000"}
    assert client.has_option("SIZE")
    assert not client.has_option("dsn")


@pytest.fixture
def stdlib_in_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a test leaves behind, it is undone."""
    monkeypatch.setitem(sys.modules, "smtplib", smtplib)


@pytest.mark.usefixtures("stdlib_in_place")
def test_install_puts_csmtplib_in_place_of_smtplib() -> None:
    csmtplib.install()
    assert __import__("smtplib") is csmtplib
    csmtplib.uninstall()
    assert __import__("smtplib") is smtplib


@pytest.mark.usefixtures("stdlib_in_place")
def test_install_twice_is_install_once() -> None:
    csmtplib.install()
    csmtplib.install()
    csmtplib.uninstall()
    assert __import__("smtplib") is smtplib


@pytest.mark.usefixtures("stdlib_in_place")
def test_uninstall_without_install_changes_nothing() -> None:
    csmtplib.uninstall()
    assert __import__("smtplib") is smtplib


@pytest.mark.usefixtures("stdlib_in_place")
def test_uninstall_gives_back_what_was_in_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody else may have replaced the stdlib's module before."""
    other = ModuleType("smtplib")
    monkeypatch.setitem(sys.modules, "smtplib", other)
    csmtplib.install()
    csmtplib.uninstall()
    assert __import__("smtplib") is other


@pytest.mark.usefixtures("stdlib_in_place")
def test_uninstall_leaves_what_another_has_put_there(monkeypatch: pytest.MonkeyPatch) -> None:
    csmtplib.install()
    other = ModuleType("smtplib")
    monkeypatch.setitem(sys.modules, "smtplib", other)
    csmtplib.uninstall()
    assert __import__("smtplib") is other
