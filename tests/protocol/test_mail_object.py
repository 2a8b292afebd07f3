"""protocol/mail_object.py: what callers hand over as a message, and DSN parameters."""

from __future__ import annotations

import io
import itertools
import re
from email.message import EmailMessage, Message
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from csmtplib import kernel
from csmtplib.protocol.mail_object import (
    DSN,
    MailObject,
    buffers_of,
    iterator_of,
    mail_object,
    xtext,
)

# Mail objects


def test_mail_object_stays_as_it_is() -> None:
    mail = MailObject("a@x", ["b@x"], b"text")
    assert mail_object(mail) is mail
    assert mail == ("a@x", ["b@x"], b"text", (), (), None)


@pytest.mark.parametrize("count", [3, 4, 5, 6])
def test_tuple_in_the_order_of_sendmail(count: int) -> None:
    values = ("a@x", "b@x", "text", ["RET=HDRS"], ["NOTIFY=NEVER"], DSN(envid="1"))
    mail = mail_object(values[:count])
    assert type(mail) is MailObject
    assert mail == values[:count] + ((), (), None)[count - 3 :]


def test_subclass_of_a_mail_object() -> None:
    class Numbered(MailObject):
        pass

    mail = mail_object(Numbered("a@x", "b@x", b""))
    assert type(mail) is MailObject
    assert mail == ("a@x", "b@x", b"", (), (), None)


@pytest.mark.parametrize("message_class", [Message, EmailMessage])
def test_email_message_has_the_envelope_of_its_headers(message_class: Any) -> None:
    message = message_class()
    message["From"] = "A <a@x>"
    message["To"] = "b@x, C <c@x>"
    message["Bcc"] = "d@x"
    mail = mail_object(message)
    assert mail.from_addr == "a@x"
    assert sorted(mail.to_addrs) == ["b@x", "c@x", "d@x"]
    assert mail.msg is message
    assert mail[3:] == ((), (), None)


def test_email_message_without_a_sender() -> None:
    with pytest.raises(ValueError, match="no From"):
        mail_object(EmailMessage())


@pytest.mark.parametrize(
    "item",
    [None, "text", b"text", (), ("a@x", "b@x"), ("a@x",) * 7, ["a@x", "b@x", b""], {"a": 1}, 5],
    ids=repr,
)
def test_what_is_no_message(item: object) -> None:
    with pytest.raises(TypeError, match=f"not {type(item).__name__}"):
        mail_object(item)


# Contents


@pytest.mark.parametrize(
    ("msg", "data"),
    [
        (b"bytes\xff", b"bytes\xff"),
        (b"", b""),
        ("text\n", b"text\n"),
        (bytearray(b"ab"), b"ab"),
        (memoryview(b"abcd")[1:3], b"bc"),
        ([b"head\n", bytearray(b"bo"), memoryview(b"dy")], b"head\nbody"),
        ((b"a", b"b"), b"ab"),
        ([], b""),
        ((each for each in (b"a", b"b", b"c")), b"abc"),
    ],
)
def test_contents(msg: Any, data: bytes) -> None:
    buffers = buffers_of(msg, utf8=False)
    assert (buffers if isinstance(buffers, bytes) else b"".join(buffers)) == data


def test_bytes_are_not_copied() -> None:
    data = b"data" * 1000
    assert buffers_of(data, utf8=False) is data
    (shared,) = buffers_of([data], utf8=False)
    assert shared is data


def test_email_message_is_flattened() -> None:
    message = EmailMessage()
    message["From"], message["To"], message["Bcc"] = "a@x", "ö@x", "c@x"
    message["Subject"] = "ß"
    message.set_content("ä\n", cte="8bit")
    plain, utf8 = (buffers_of(message, utf8=each) for each in (False, True))
    assert b"Subject: =?utf-8?" in plain
    assert "Subject: ß\r\n".encode() in utf8
    for data in (plain, utf8):
        assert isinstance(data, bytes)
        assert data.endswith(b"\r\n\r\n\xc3\xa4\r\n")
        assert b"Bcc" not in data


@pytest.mark.parametrize("msg", [None, 5, ["text"], [b"a", "b"], [[b"a"]], {"a": b"b"}], ids=repr)
def test_what_is_no_content(msg: Any) -> None:
    with pytest.raises(TypeError, match=f"not {type(msg).__name__}"):
        buffers_of(msg, utf8=False)


def test_text_that_is_not_ascii() -> None:
    with pytest.raises(UnicodeEncodeError):
        buffers_of("ä", utf8=True)


@given(
    text=st.text(".a\r\n", max_size=12).map(str.encode),
    cuts=st.lists(st.integers(0, 12), max_size=3).map(sorted),
    dots=st.booleans(),
)
@example(text=b"a\r\n.\r\n", cuts=[2, 3], dots=True)
def test_content_is_the_same_wherever_it_is_cut(text: bytes, cuts: list[int], dots: bool) -> None:
    borders = [0, *cuts, len(text)]
    pieces = [text[a:b] for a, b in itertools.pairwise(borders)]
    whole, cut = (kernel.Content(buffers_of(each, utf8=False), dots) for each in (text, pieces))
    for name in ("byte_count", "size", "longest_line", "has_nul", "has_8bit", "terminator"):
        assert getattr(cut, name) == getattr(whole, name), name
    normal = re.sub(rb"\r\n|\r|\n", b"\r\n", text)
    if normal and not normal.endswith(b"\r\n"):
        normal += b"\r\n"
    assert whole.size == len(normal)
    gained = len(re.findall(rb"(?m)^\.", normal)) + len(b".\r\n") if dots else 0
    assert whole.byte_count == whole.size + gained


# Delivery status notifications (RFC 3461)


def test_nothing_asked_for() -> None:
    assert DSN().mail_parameters() == []
    assert DSN().rcpt_parameters("b@x") == []


@pytest.mark.parametrize(
    ("dsn", "parameters"),
    [
        (DSN(ret="FULL"), ["RET=FULL"]),
        (DSN(ret="hdrs"), ["RET=HDRS"]),
        (DSN(envid="QQ314159"), ["ENVID=QQ314159"]),
        (DSN(ret="HDRS", envid="1 +1=2"), ["RET=HDRS", "ENVID=1+20+2B1+3D2"]),
        (DSN(envid="x" * 100), ["ENVID=" + "x" * 100]),
        (DSN(notify="NEVER", orcpt={"b@x": "c@x"}), []),
    ],
    ids=repr,
)
def test_parameters_of_mail(dsn: DSN, parameters: list[str]) -> None:
    """Section 4.3 and 4.4."""
    assert dsn.mail_parameters() == parameters


@pytest.mark.parametrize(
    ("dsn", "parameters"),
    [
        (DSN(ret="FULL", envid="1"), []),
        (DSN(notify="NEVER"), ["NOTIFY=NEVER"]),
        (DSN(notify=["never"]), ["NOTIFY=NEVER"]),
        (DSN(notify=["SUCCESS", "FAILURE", "DELAY"]), ["NOTIFY=SUCCESS,FAILURE,DELAY"]),
        (DSN(notify=("delay",)), ["NOTIFY=DELAY"]),
        (DSN(notify="FAILURE"), ["NOTIFY=FAILURE"]),
        (DSN(orcpt={"b@x": "d+e=f@x"}), ["ORCPT=rfc822;d+2Be+3Df@x"]),
        (DSN(orcpt={"c@x": "d@x"}), []),
        (
            DSN(notify=["DELAY"], orcpt={"b@x": "d@x"}),
            ["NOTIFY=DELAY", "ORCPT=rfc822;d@x"],
        ),
    ],
    ids=repr,
)
def test_parameters_of_rcpt(dsn: DSN, parameters: list[str]) -> None:
    """Section 4.1 and 4.2."""
    assert dsn.rcpt_parameters("b@x") == parameters


def test_original_recipient_that_is_not_ascii() -> None:
    """RFC 6533 section 3."""
    (parameter,) = DSN(orcpt={"b@x": "ö@x"}).rcpt_parameters("b@x")
    assert parameter.startswith("ORCPT=utf-8;")


NOTIFY = 'notify must be "NEVER", or some of "SUCCESS", "FAILURE" and "DELAY", not '


@pytest.mark.parametrize(
    ("arguments", "error", "said"),
    [
        ({"ret": "BODY"}, ValueError, 'ret must be "FULL" or "HDRS", not \'BODY\''),
        ({"ret": ""}, ValueError, 'ret must be "FULL" or "HDRS"'),
        ({"ret": True}, TypeError, 'ret must be "FULL" or "HDRS", not True'),
        ({"envid": ""}, ValueError, "envid must be 1 to 100 ASCII characters, not ''"),
        ({"envid": "x" * 101}, ValueError, "envid must be 1 to 100 ASCII characters"),
        ({"envid": "ä"}, ValueError, "envid must be 1 to 100 ASCII characters"),
        ({"envid": 7}, TypeError, "envid must be 1 to 100 ASCII characters, not 7"),
        ({"notify": "always"}, ValueError, f"{NOTIFY}'always'"),
        ({"notify": ["NEVER", "DELAY"]}, ValueError, NOTIFY),  # which stands alone
        ({"notify": ["NEVER", "NEVER"]}, ValueError, NOTIFY),
        ({"notify": "SUCCESS,FAILURE"}, ValueError, NOTIFY),
        ({"notify": [""]}, ValueError, NOTIFY),
        ({"notify": [None]}, TypeError, NOTIFY),
        ({"notify": None}, TypeError, f"{NOTIFY}None"),
        ({"notify": True}, TypeError, NOTIFY),
        # For one recipient alone.
        pytest.param(
            {"notify": (each for each in ["DELAY"])}, TypeError, NOTIFY, id="notify, generator"
        ),
        ({"orcpt": "d@x"}, TypeError, "orcpt must be a mapping of recipients to their original"),
        ({"orcpt": {"b@x": None}}, TypeError, "orcpt must be a mapping"),
        ({"orcpt": {1: "d@x"}}, TypeError, "orcpt must be a mapping"),
    ],
    ids=str,
)
def test_what_rfc_3461_does_not_have(
    arguments: dict[str, Any], error: type[Exception], said: str
) -> None:
    """T26: DSN(notify="always") was an error of each message that it came with."""
    with pytest.raises(error) as caught:
        DSN(**arguments)
    assert said in str(caught.value)


# Several messages, and one


def one_message() -> EmailMessage:
    message = EmailMessage()
    message["From"], message["To"] = "a@x", "b@x"
    return message


@pytest.mark.parametrize(
    "item",
    [
        one_message(),
        MailObject("a@x", "b@x", b""),
        ("a@x", ["b@x"], b""),
        ("a@x", ["b@x"], b"", ["SIZE=1"]),
        "Subject: x",
        b"Subject: x",
        bytearray(b"x"),
        memoryview(b"x"),
        io.BytesIO(b"x"),
        io.StringIO("x"),
    ],
    ids=lambda item: type(item).__name__,
)
def test_one_message_instead_of_several(item: Any) -> None:
    """T15: the names of its headers, its fields or its bytes were taken for messages."""
    kind = type(item).__name__
    with pytest.raises(
        TypeError, match=rf"^messages must be an iterable .* one message \({kind}\)"
    ):
        iterator_of("messages", item)


@pytest.mark.parametrize("item", [None, 5, object()])
def test_what_is_no_iterable(item: Any) -> None:
    """T15"""
    with pytest.raises(TypeError, match=f"messages must be an iter.* not {type(item).__name__}"):
        iterator_of("messages", item)


def test_several_messages() -> None:
    items = [("a@x", "b@x", b""), MailObject("a@x", "b@x", b""), one_message()]
    for each in (items, tuple(items), iter(items), dict.fromkeys(items), (one for one in items)):
        assert list(iterator_of("messages", each)) == items
    assert list(iterator_of("messages", ())) == []


@given(st.text(st.characters(max_codepoint=127)))
@example("+=\r\n\0 ~!")
def test_xtext_can_be_read_again(text: str) -> None:
    """Section 4: hexchar is "+" and two upper-case digits, and the rest is graphic."""
    encoded = xtext(text)
    assert re.fullmatch(r"(?:[!-*,-<>-~]|\+[0-9A-F]{2})*", encoded)
    assert re.sub(r"\+(..)", lambda found: chr(int(found[1], 16)), encoded) == text
