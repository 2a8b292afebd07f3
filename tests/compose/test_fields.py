"""Header fields of a template: what they are made of, and what no value can do in them."""

from __future__ import annotations

from pathlib import Path

import pytest

from csmtplib.compose.fields import Field, parse_header, unsubscribe_field
from csmtplib.compose.template import Environment, TemplateError


@pytest.fixture
def environment(tmp_path: Path) -> Environment:
    return Environment(tmp_path, autoescape=False)


def parse(environment: Environment, block: str) -> dict[str, Field]:
    fields = parse_header(f"{block}\nFrom: a@x.example", environment, "letter.txt")
    return {field.name: field for field in fields}


def made(environment: Environment, block: str, **values: object) -> str:
    """The bytes of the first field."""
    field = next(iter(parse(environment, block).values()))
    return field.data(environment.variables(values)).decode()


@pytest.mark.parametrize(
    ("source", "values", "field"),
    [
        ("Subject: Hi {{ n }}", {"n": "Ann"}, "Subject: Hi Ann\r\n"),
        ("Subject:Hi", {}, "Subject: Hi\r\n"),
        ("Subject: Hi\n  {{ n |\n upper }}\n\t!", {"n": "Ann"}, "Subject: Hi  ANN !\r\n"),
        ("subject: {{ n }}", {"n": 7}, "subject: 7\r\n"),
        ("Subject: {{ n }}", {"n": "  "}, "Subject: \r\n"),
        ("X-Id: {{ n }}", {"n": "Jörg"}, "X-Id: =?utf-8?b?SsO2cmc=?=\r\n"),
        ("References: <{{ n }}@x.example>", {"n": "1"}, "References: <1@x.example>\r\n"),
        ("To: {{ e }}", {"e": "b@x"}, "To: b@x\r\n"),
        ("To: {{ n }} <{{ e }}>", {"n": "B", "e": "b@x"}, "To: B <b@x>\r\n"),
        ("To: {{ n }} <{{ e }}>", {"n": "", "e": "b@x"}, "To: b@x\r\n"),
        ("To: {{ n }} <{{ e }}>", {"n": "B, C", "e": "b@ü"}, 'To: "B, C" <b@xn--tda>\r\n'),
        ('To: "{{ n }}" <{{ e }}>', {"n": 'B "C"', "e": "b@x"}, 'To: "B \\"C\\"" <b@x>\r\n'),
        ('To: "{{ n | default("x, <y>") }}" <b@x>', {}, 'To: "x, <y>" <b@x>\r\n'),
        ("To: {{ '<' if 1 > 0 else ',' }} <b@x>", {}, 'To: "<" <b@x>\r\n'),
        ("To: {% if n %}{{ n }} {% endif %}<b@x>", {"n": None}, "To: b@x\r\n"),
        (r'To: "a \"b\" \\c" <b@x>', {}, 'To: "a \\"b\\" \\\\c" <b@x>\r\n'),
        ("To: {{ n }} <b@x>, C <c@x>,d@x", {"n": "B"}, "To: B <b@x>, C <c@x>, d@x\r\n"),
        ("To: undisclosed-recipients:;", {}, "To: undisclosed-recipients:;\r\n"),
        ("Reply-To: {b} <b@x>", {}, "Reply-To: {b} <b@x>\r\n"),
    ],
)
def test_a_field(
    environment: Environment, source: str, values: dict[str, object], field: str
) -> None:
    assert made(environment, source, **values) == field


def test_fields_without_markup_are_constant(environment: Environment) -> None:
    fields = parse(environment, "To: {{ e }}\nSubject: Hi\nX-A: {# a #}b")
    assert [field.constant for field in fields.values()] == [False, True, False, True]


@pytest.mark.parametrize(
    ("source", "values", "reason"),
    [
        ("Subject: {{ n }}", {}, "Subject: no column is named 'n'; columns: none; for a default"),
        ("Subject: {{ n }}", {"n": None}, "Subject: a value is null"),
        ("Subject: {{ n }}", {"n": "a\r\nBcc: b@x.example"}, "Subject: .* not allowed in a header"),
        ("Subject: {{ n }}", {"n": "a\n"}, r"Subject: .* contains U\+000A"),
        ("Subject: {{ n }}", {"n": "a\ud800"}, "Subject: a value is not valid Unicode"),
        ("References: {{ n }}", {"n": "ü"}, "References: only ASCII"),
        ("To: {{ n }} <b@x.example>", {"n": "a\nCc: c@x.example"}, "To: .* not allowed"),
        ("To: {{ n }} <b@x.example>", {"n": "c\0d@x.example"}, "To: a value contains NUL"),
        ("To: {{ n }} <b@x.example>", {}, "To: no column is named 'n'"),
        ("To: b <{{ n }}>", {"n": "c@x.example>, <d@x.example"}, "To: .* is more than one"),
        ("To: {{ n }}", {"n": "c@x.example, d@x.example"}, "To: .* is more than one"),
        ("To: {{ n }}", {"n": ""}, "To: the address is empty"),
        (
            "To: {% if n %}b <b@x.example{% endif %}>",
            {"n": ""},
            "To: a value contains NUL, or a {%",
        ),
    ],
)
def test_a_value_that_can_not_stand_there(
    environment: Environment, source: str, values: dict[str, object], reason: str
) -> None:
    with pytest.raises(ValueError, match=f"^{reason}"):
        made(environment, source, **values)


@pytest.mark.parametrize(
    ("block", "line", "message"),
    [
        ("To: b@x.example\nHello", 2, "'Hello' is not a header field: put an empty line"),
        ("To: b@x.example\n: x", 2, "': x' is not a header field"),
        (" To: b@x.example", 1, "is not a header field"),
        ("{% if x %}", 1, "is not a header field"),
        ("X: a\n b\nBcc: b@x.example", 3, "remove Bcc"),
        ("content-type: text/html", 1, "remove content-type"),
        ("Content-Transfer-Encoding: 8bit", 1, "remove Content-Transfer-Encoding"),
        ("MIME-Version: 1.0", 1, "remove MIME-Version"),
        ("Subject: a\nsubject: b", 2, "subject occurs twice"),
        ("Subject: a\nX: {{ b", 2, "X: unexpected end of template"),
        ("Subject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=", 1, "Subject contains an encoded word"),
        ("To: b", 1, "To: 'b' is not an address"),
        ("To:", 1, "To: the value is empty"),
        ("Cc: b@x.example, ,c@x.example", 1, "Cc: the address is empty"),
        ("Message-ID: <ü@x.example>", 1, "Message-ID: only ASCII"),
    ],
)
def test_an_invalid_header(environment: Environment, block: str, line: int, message: str) -> None:
    with pytest.raises(TemplateError, match=message) as caught:
        parse(environment, block)
    assert (caught.value.file, caught.value.line) == ("letter.txt", line)


@pytest.mark.parametrize("block", ["", "To: b@x.example"])
def test_a_header_without_from(environment: Environment, block: str) -> None:
    with pytest.raises(TemplateError, match="From is missing"):
        parse_header(block, environment, "letter.txt")


def test_a_header_with_many_tags_is_read_in_no_time(environment: Environment) -> None:
    tags = "{{ a }}" * 200 + '"' * 20
    with pytest.raises(TemplateError, match="Subject occurs twice"):
        parse(environment, f"To: {tags}\nCc: {tags}<\nSubject: a\nSubject: b")


ONE_CLICK = "List-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n"


@pytest.mark.parametrize(
    ("source", "field"),
    [
        ("https://x.example/u/{{ id }}", f"<https://x.example/u/7>\r\n{ONE_CLICK}"),
        ("mailto:u@x.example?subject={{ id }}", "<mailto:u@x.example?subject=7>\r\n"),
        ("http://x.example/{{ id }}", "<http://x.example/7>\r\n"),
        ("{{ url }}", f"<HTTPS://x.example/>\r\n{ONE_CLICK}"),
        (
            "mailto:u@x.example, https://x.example/{{ name | urlencode }}",
            f"<mailto:u@x.example>, <https://x.example/J%C3%B6rg%2C%20B>\r\n{ONE_CLICK}",
        ),
    ],
)
def test_how_to_unsubscribe(environment: Environment, source: str, field: str) -> None:
    values = {"id": 7, "name": "Jörg, B", "url": "HTTPS://x.example/"}
    data = unsubscribe_field(source, environment).data(environment.variables(values))
    assert data.decode() == f"List-Unsubscribe: {field}"


@pytest.mark.parametrize(
    "value", ["a b", "a>", "<a", "a,b", "a, mailto:b@x.example", "ü", "a\r\nBcc: b", "a\0b", ""]
)
def test_a_value_that_makes_no_uri(environment: Environment, value: str) -> None:
    field = unsubscribe_field("{{ id }}", environment)
    for prefix in ("https://x.example/", "mailto:"):
        whole = prefix + value if value else "u@x.example"
        with pytest.raises(ValueError, match=r"is not an https, http or mailto URI|NUL"):
            field.data(environment.variables({"id": whole}))


@pytest.mark.parametrize("source", ["", "u@x.example", "https://x.example/ü", "mailto:a b"])
def test_a_template_that_makes_no_uri(environment: Environment, source: str) -> None:
    with pytest.raises(TemplateError, match=r"^List-Unsubscribe, line 1: "):
        unsubscribe_field(source, environment)
