"""Templates: what they may do, and where their faults are."""

from __future__ import annotations

from pathlib import Path

import pytest

from csmtplib.compose.template import Environment, TemplateError, is_constant, reason, unknown

from .conftest import Writing


@pytest.fixture
def environment(tmp_path: Path) -> Environment:
    return Environment(tmp_path, autoescape=False)


def render(environment: Environment, source: str, **fields: object) -> str:
    return environment.compile(source, "letter.txt").text(environment.variables(fields))


def why(environment: Environment, source: str, **fields: object) -> str:
    with pytest.raises(Exception) as caught:  # noqa: PT011
        render(environment, source, **fields)
    return reason(caught.value, environment.variables(fields))


def test_fields_are_variables(environment: Environment) -> None:
    assert (
        render(environment, "Hi {{ name }}, {{ n + 1 }}\n", name="<Ann>", n=1) == "Hi <Ann>, 2\r\n"
    )


def test_html_is_escaped(tmp_path: Path) -> None:
    environment = Environment(tmp_path, autoescape=True)
    (tmp_path / "footer").write_text("<i>{{ name }}</i>")
    text = render(environment, "<b>{{ name }}</b>{% include 'footer' %}", name="<&>")
    assert text == "<b>&lt;&amp;&gt;</b><i>&lt;&amp;&gt;</i>"


def test_line_ends_become_cr_lf(environment: Environment) -> None:
    assert render(environment, "a\r\nb\nc\n\n") == "a\r\nb\r\nc\r\n\r\n"


def test_functions_of_jinja_and_fields_that_have_their_names(environment: Environment) -> None:
    source = "{% for i in range(3) %}{{ i }}{% endfor %}"
    assert render(environment, source) == "012"
    assert render(environment, "{{ range }}", range="wide") == "wide"


def test_a_field_that_is_missing(environment: Environment) -> None:
    for source in ("{{ nmae }}", "{% if nmae %}{% endif %}", "{{ nmae | upper }}"):
        assert why(environment, source, name="Ann").endswith(
            "no column is named 'nmae'; columns: 'name'; did you mean 'name'?"
        )
    assert render(environment, "{{ nmae | default('friend') }}") == "friend"


def test_null_is_not_written(environment: Environment) -> None:
    assert why(environment, "Dear {{ name }}", name=None).startswith("a value is null")
    assert render(environment, "{% if name %}Dear {{ name }}{% endif %}", name=None) == ""


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("{{ name.__class__.__mro__ }}", "unsafe"),
        ("{{ ''.__class__ }}", "unsafe"),
        ("{{ name() }}", "TypeError: 'str' object is not callable"),
        ("{{ name / 0 }}", "TypeError: "),
        ("{{ 1 / 0 }}", "ZeroDivisionError: "),
        ("{% for i in range(10**9) %}{% endfor %}", "OverflowError: Range too big"),
        ("{% include name %}", "Ann"),
    ],
)
def test_what_an_expression_can_not_do(environment: Environment, source: str, said: str) -> None:
    assert said in why(environment, source, name="Ann")


def test_nothing_is_left_to_chance(environment: Environment) -> None:
    with pytest.raises(TemplateError, match="No filter named 'random'"):
        environment.compile("{{ [1, 2] | random }}", "letter.txt")
    assert "named 'lipsum'" in why(environment, "{{ lipsum() }}")


@pytest.mark.parametrize(
    ("source", "line", "message"),
    [
        ("a\n{{ b", 11, "unexpected end of template"),
        ("\n\n{% if a %}b", 12, "Unexpected end of template"),
        ("{{ a | nothing }}", 10, "No filter named 'nothing'"),
        ("{% include 'missing' %}", 10, "there is no file missing in its directory"),
        ("{% extends '../x' %}", 10, "there is no file ../x in its directory"),
        ("{% from 'missing' import a %}", 10, "there is no file missing in its directory"),
    ],
)
def test_an_invalid_template(
    environment: Environment, source: str, line: int, message: str
) -> None:
    with pytest.raises(TemplateError, match=message) as caught:
        environment.compile(source, "letter.txt", 10)
    assert (caught.value.file, caught.value.line) == ("letter.txt", line)
    assert str(caught.value).startswith(f"letter.txt, line {line}: ")


def test_a_fault_in_an_included_file_is_named(tmp_path: Path, environment: Environment) -> None:
    (tmp_path / "footer").write_text("\n{{ x")
    with pytest.raises(TemplateError) as caught:
        environment.compile("{% include 'footer' %}", "letter.txt", 10)
    assert caught.value.file == str(tmp_path / "footer")
    assert caught.value.line == 2


def test_an_included_file_that_may_be_missing(environment: Environment) -> None:
    assert render(environment, "a{% include 'missing' ignore missing %}b") == "ab"
    assert "missing" in why(environment, "{% include ['missing', 'other'] %}")


def test_files_that_include_each_other_compile(tmp_path: Path, environment: Environment) -> None:
    (tmp_path / "a").write_text("a{% if n %}{% set n = n - 1 %}{% include 'a' %}{% endif %}")
    assert render(environment, "{% include 'a' %}", n=2) == "aaa"


def test_literals_of_all_files_are_known(tmp_path: Path, environment: Environment) -> None:
    (tmp_path / "base").write_text("head\n{% block text %}{% endblock %}{% include 'footer' %}")
    (tmp_path / "footer").write_text("foot\n")
    template = environment.compile(
        "{% extends 'base' %}{% block text %}Hi {{ name }}!{% endblock %}", "letter.txt"
    )
    assert template.literals == {"head\r\n", "Hi ", "!", "foot\r\n"}
    pieces = list(template.pieces(environment.variables({"name": "Ann"})))
    assert pieces == ["head\r\n", "Hi ", "Ann", "!", "foot\r\n"]


def test_what_one_message_sets_no_other_sees(environment: Environment) -> None:
    template = environment.compile("{% set x = 1 %}{{ x }}{{ y }}", "letter.txt")
    variables = environment.variables({"y": 2})
    assert template.text(variables) == template.text(variables) == "12"
    assert "x" not in variables


def test_a_source_without_markup_is_constant() -> None:
    assert is_constant("a { b } % # {") is True
    for source in ("{{ x }}", "a {% if x %}{% endif %}", "{# a #}"):
        assert is_constant(source) is False


# Names: which each row needs, and which stand in the wrong braces


@pytest.mark.parametrize(
    ("source", "needed"),
    [
        ("{{ a }} {{ b.c }} {{ d[e] }} {{ f | upper }} {{ g() }}", "abdefg"),
        ("{{ a + b }} {{ a == b }} {{ [a, {'x': c}] }} {{ x(a, b=c) }}", "abcx"),
        ("{{ a or b }} {{ c and d }} {{ 1 if e else f }} {{ g if h else i }}", "aceh"),
        ("{{ a | default('') }} {{ b | d(c) }} {{ (d | default('')) | upper }}", ""),
        ("{{ a is defined }} {{ b is undefined }} {{ c is odd }}", "c"),
        ("{% if a %}{{ b }}{% endif %}{% for c in d %}{{ c }}{{ e }}{% endfor %}", ""),
        ("{% set a = 1 %}{{ a }}{{ range(3) }}{{ loop }}", "loop"),
        ("{# {{ a }} #}{% raw %}{{ a }}{% endraw %}", ""),
    ],
)
def test_what_each_row_needs(environment: Environment, source: str, needed: str) -> None:
    names = {use.name for use in environment.compile(source, "letter.txt").needed}
    assert names == ({"loop"} if needed == "loop" else set(needed))


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ("{name} { name } ${city}", ["name", "name", "city"]),
        ("{{ name }} {{ '{name}' }} {# {name} #}", []),
        ("{ color: red } {} {1} { a b } {\nname\n} {a.b} {%if 1%}{x}{%endif%}", ["x"]),
        ("{straße}", ["straße"]),
    ],
)
def test_what_stands_in_single_braces(
    environment: Environment, source: str, names: list[str]
) -> None:
    found = environment.compile(source, "letter.txt").in_single_braces
    assert [use.name for use in found] == names


def test_the_line_is_that_of_the_file(environment: Environment) -> None:
    template = environment.compile("a\n{{ b }}\n{c}\n\n{{ d }} {e}", "letter.txt", 10)
    assert [tuple(use) for use in template.needed] == [("b", 11), ("d", 14)]
    assert [tuple(use) for use in template.in_single_braces] == [("c", 12), ("e", 14)]


def test_a_letter_checked_against_a_table(write_letter: Writing) -> None:
    header = "From: a@x.example\nTo: {{ name }} <{{ email }}>\nSubject: x"
    letter = write_letter("Hi {{ town }}\n", "<p>{{ plan }} {foo}</p>", header)
    assert letter.check(["email", "name", "town", "plan"], all_rows=True) == [
        f"{letter.file.replace('.txt', '.html')}, line 1: {{foo}} would be sent as it is; write "
        "values in {{ }}"
    ]
    for missing, at in (
        ("email", "letter.txt, line 2"),
        ("town", "letter.txt, line 5"),
        ("plan", "letter.html, line 1"),
    ):
        columns = [each for each in ("email", "name", "town", "plan") if each != missing]
        with pytest.raises(TemplateError, match=f"{at}: no column is named '{missing}'"):
            letter.check(columns, all_rows=True)
        # The rows of JSON Lines may differ.
        assert len(letter.check(columns, all_rows=False)) == 1


def test_a_column_in_single_braces(write_letter: Writing) -> None:
    letter = write_letter(header="From: a@x.example\nSubject: {Email}\nTo: {{ email }}")
    with pytest.raises(
        TemplateError, match=r"line 2: \{Email\} would be sent .*: write \{\{ email"
    ):
        letter.check(["email"], all_rows=False)
    with pytest.raises(
        TemplateError, match=r"line 2: To: '\{email\}' is not an address: .*double braces"
    ):
        write_letter(header="From: a@x.example\nTo: {email}")


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("nmae", "columns: 'E-Mail', 'Name'; did you mean 'Name'?"),
        ("email", "did you mean 'E-Mail'?"),
        ("town", r"for a default, write {{ town | default('') }}"),
    ],
)
def test_what_is_said_of_an_unknown_name(name: str, hint: str) -> None:
    assert unknown(name, ["E-Mail", "Name"]).endswith(hint)
