"""protocol/envelope.py: addresses and commands as bytes, and the injection check."""

from __future__ import annotations

import re
import smtplib

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from csmtplib.protocol.envelope import address_only, check_command, command, quoteaddr

CONTROLS = [*map(chr, range(0x20)), "\x7f"]

# What address syntax is made of, so that random text is often nearly an address.
ADDRESS_TEXT = st.text('abé@<>()[]"\\,;:. \t', max_size=12)


@given(ADDRESS_TEXT)
@example("a@b\n")
@example("")
@example("a@b")
@example(" a@b ")
@example("A B <a@b>")
@example("a@b (comment)")
@example('"A, B" <a@b>')
@example("<>")
@example("<a b@c>")
@example("@relay:a@b")
@example("postmaster")
def test_quoteaddr_is_the_stdlibs(text: str) -> None:
    stdlib = smtplib.quoteaddr(text)
    try:
        ours = quoteaddr(text)
    except ValueError as error:
        if "prohibited" in str(error):
            # First exception: the stdlib's parser drops control characters, with what stands
            # between them.
            assert set(text) & set(CONTROLS)
            return
        if "text after its" in str(error):
            # What would be read as parameters of the command.
            assert re.search(r">\s", text.strip())
            assert stdlib in (text, f"<{text}>") or drops_an_address(stdlib, text)
            return
        # Second exception: what opens with "<" and can't be read would go out unclosed.
        assert text.strip().startswith("<")
        assert not text.strip().endswith(">")
        assert stdlib == text or drops_an_address(stdlib, text)
        return
    if ours != stdlib:
        # Third exception: the stdlib would send to another address than the one that is meant.
        assert drops_an_address(stdlib, text)
        assert ours in (text, f"<{text}>")


def drops_an_address(parsed: str, text: str) -> bool:
    """Whether an "@" of the text, and all that hangs on it, got lost."""
    return parsed.count("@") < text.count("@")


@pytest.mark.parametrize(
    "text", ["a@b\n", "\t<a@b> \r\n", "A\r\n B <a@b>", "A\n\tB <a@b>", "A\tB <a@b>"]
)
def test_white_space_of_a_header_is_passed_over(text: str) -> None:
    assert quoteaddr(text) == smtplib.quoteaddr(text) == "<a@b>"


@pytest.mark.parametrize("text", ["a\r\n@b", "<a@b\n>", "a@b\r\nDATA", "a\0@b", "A\x0b <a@b>"])
def test_address_with_control_characters(text: str) -> None:
    """Case 36: refused here, or where the command is made of what could not be parsed."""
    with pytest.raises(ValueError, match="prohibited"):
        command(f"RCPT TO:{quoteaddr(text)}")


@pytest.mark.parametrize("unclosed", ["<", "<@", "<>a@b", " <a@b)c@d "])
def test_address_without_closing_bracket(unclosed: str) -> None:
    """CPython issue 145552."""
    with pytest.raises(ValueError, match="without a '>'"):
        quoteaddr(unclosed)


@pytest.mark.parametrize("odd", ["a@b)c@d", "a@b@c"])
def test_address_is_never_replaced_by_part_of_it(odd: str) -> None:
    """CPython issue 78772: older parsers read each as "a@b", or as nothing."""
    assert quoteaddr(odd) == f"<{odd}>"
    assert address_only(odd) == odd


@pytest.mark.parametrize("several", ["a@b, c@d", "a@b; c@d", "a@b <a@b>", "A <a@b>, c@d"])
def test_several_addresses_mean_what_they_mean_to_the_stdlib(several: str) -> None:
    """The first to older parsers, none to newer ones; programs were written for one of the two."""
    assert quoteaddr(several) == smtplib.quoteaddr(several)


@pytest.mark.parametrize(
    "end", ["NOTIFY=NEVER", "ORCPT=rfc822;c@d", "NOTIFY=NEVER ORCPT=rfc822;c@d"]
)
@pytest.mark.parametrize("blank", [" ", "\t"])
def test_parameters_behind_an_address_are_not_sent(end: str, blank: str) -> None:
    try:
        path = quoteaddr(f"a@b>{blank}{end}")
    except ValueError:
        return
    assert path == "<a@b>"


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("a@b", "a@b"),
        ("<a@b>", "a@b"),
        ("A B <a@b>", "a@b"),
        ("a@b (A B)", "a@b"),
        ("postmaster", "postmaster"),
        ("", ""),
    ],
)
def test_address_only(text: str, address: str) -> None:
    assert address_only(text) == address
    assert smtplib._addr_only(text) == address  # type: ignore[attr-defined]


@pytest.mark.parametrize("control", CONTROLS, ids=ascii)
def test_control_character_at_every_position(control: str) -> None:
    line = "MAIL FROM:<a@b> SIZE=1"
    for position in range(len(line) + 1):
        with pytest.raises(ValueError, match="prohibited") as caught:
            check_command(line[:position] + control + line[position:])
        assert control not in str(caught.value)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("RCPT TO:<a@b\r\nDATA>", r"newline characters: RCPT TO:<a@b\r\nDATA>"),
        ("NOOP \n", r"newline characters: NOOP \n"),
        ("NOOP \0", r"control characters: NOOP \0"),
        ("NOOP \x1b[2J\t", r"control characters: NOOP \x1b[2J\t"),
    ],
)
def test_message_shows_the_command_escaped(line: str, message: str) -> None:
    with pytest.raises(ValueError, match="prohibited") as caught:
        check_command(line)
    assert str(caught.value).endswith(message)


@given(st.text(st.characters(exclude_characters=CONTROLS)))
@example("MAIL FROM:<käfer@b>\x80\x85\u2028")
@example("\u760d\u760a")
def test_any_other_character_passes(line: str) -> None:
    check_command(line)


def test_command_is_ascii_by_default() -> None:
    assert command("MAIL FROM:<a@b>") == b"MAIL FROM:<a@b>\r\n"


def test_command_in_utf8() -> None:
    assert command("MAIL FROM:<ä@b>", "utf-8") == b"MAIL FROM:<\xc3\xa4@b>\r\n"


# The last two would be CR LF if they were narrowed to bytes (CVE-2025-7962).
@pytest.mark.parametrize("text", ["ä", "\x80", "\u760d\u760a"])
def test_command_that_its_encoding_cannot_hold(text: str) -> None:
    with pytest.raises(UnicodeEncodeError):
        command(f"MAIL FROM:<{text}@b>")


@given(st.text(max_size=8), st.sampled_from(["ascii", "latin-1", "utf-8"]))
@example("\u760d\u760a", "utf-8")
def test_command_is_one_line_or_an_error(text: str, encoding: str) -> None:
    try:
        data = command(f"RCPT TO:<{text}>", encoding)
    except ValueError:
        return
    assert data.endswith(b">\r\n")
    assert not set(data[:-2]) & {*range(0x20), 0x7F}
