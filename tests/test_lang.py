"""The two little languages, by data: queries against jmespath's own answers, functions and templates by results."""

from __future__ import annotations

from pathlib import Path

import jmespath
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from prx.lang import query
from prx.lang.functions import OWN
from prx.lang.template import WORDS, Template, TemplateError

HERE = Path(__file__).parent / "lang"


def rows(name):
    return [(group["given"], case) for group in yaml.safe_load((HERE / name).read_text()) for case in group["cases"]]


@pytest.mark.parametrize(("given", "expression"), rows("jmespath.yaml"))
def test_as_jmespath(given, expression):
    try:
        wanted = jmespath.search(expression, given)
    except TypeError as error:  # what does not compare: ours fails likewise
        with pytest.raises(type(error)):
            query.compile_query(expression)(given)
        return
    got = query.compile_query(expression)(given)
    assert (got, type(got)) == (wanted, type(wanted))


@pytest.mark.parametrize(("given", "case"), rows("functions.yaml"))
def test_functions(given, case):
    if "error" in case:
        with pytest.raises(query.QueryError) as caught:
            query.checked(case["expression"])
        assert case["error"] in str(caught.value)
    else:
        assert query.compile_query(case["expression"])(given) == case["result"]


def test_every_own_function_is_tested_and_documented():
    text = (HERE / "functions.yaml").read_text()
    schema = (HERE.parents[1] / "schemas" / "provider.schema.json").read_text()
    for name in OWN:
        assert f"{name}(" in text
        assert name in schema


@pytest.mark.parametrize(("given", "case"), rows("templates.yaml"))
def test_templates(given, case):
    template = Template(case["template"])
    if "problem" in case:
        assert case["problem"] in template.problems[0][1]
    elif "error" in case:
        with pytest.raises(TemplateError) as caught:
            template(given)
        assert case["error"] in str(caught.value)
    else:
        assert template.problems == []
        assert template(given) == case["result"]


def test_every_word_is_tested():
    text = (HERE / "templates.yaml").read_text()
    assert all(f"{word}:" in text for word in WORDS)


def test_what_a_template_reads():
    template = Template({"a": "=params.x || params.y", "b": {"each": "turns[]", "item": "=params.z"}, "c": "=system"})
    assert template.params == {"x", "y"}
    assert template.reads == {"params", "turns", "system"}
    assert Template({"a": "=params"}).params == {"*"}


def test_shared_steps_give_the_same():
    expressions = ["a.b[0].c", "a.b[0].d", "a.b[?x == `1`] | [0].c", "a.b[?x == `1`] | [0].d", "a || b", "z"]
    value = {"a": {"b": [{"c": 1, "d": 2}, {"x": 1, "c": 3, "d": 4}]}}
    assert query.compile_all(expressions)(value) == tuple(jmespath.search(each, value) for each in expressions)


def test_nesting_beyond_python_goes_to_jmespath():
    expression = "[*]" * 40
    value = [[]]
    assert query.compile_query(expression)(value) == jmespath.search(expression, value)
    assert query.compile_all([expression, "[0]"])(value) == (jmespath.search(expression, value), [])


@pytest.mark.parametrize("expression", ["[" * 400, "a" * 501, "(" * 300 + "a" + ")" * 300, "`[" + "9" * 5000 + "]`"])
def test_monsters_are_refused(expression):
    with pytest.raises(query.QueryError):
        query.checked(expression)


NAMES = st.sampled_from(["a", "b", "c"])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 3) | st.sampled_from(["", "a", "b"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=12,
)
EXPRESSIONS = st.recursive(
    NAMES | st.sampled_from(["@", "`0`", "`1`", "`null`", "''", "'a'", "`[]`"]),
    lambda inner: st.one_of(
        st.builds("({}).{}".format, inner, NAMES),
        st.builds("({})[{}]".format, inner, st.sampled_from(["0", "-1", "1:", "*", "", "?a", "?a == `1`", "?!(b)"])),
        st.builds("({}) {} ({})".format, inner, st.sampled_from(["||", "&&", "|", "==", "!=", "<", ">="]), inner),
        st.builds("!({})".format, inner),
        st.builds("({}).*".format, inner),
        st.builds("[{}, {}]".format, inner, inner),
        st.builds("{{x: {}, y: {}}}".format, inner, inner),
        st.builds("({})[].[a, b]".format, inner),
        st.builds("type({})".format, inner),
        st.builds("not_null({}, {})".format, inner, inner),
    ),
    max_leaves=6,
)


@settings(max_examples=400, deadline=None)
@given(EXPRESSIONS, VALUES)
def test_compiled_is_jmespath(expression, value):
    """Any expression over any value: the same result, or an error in both."""
    if len(expression) > query.MAX_LENGTH:
        return
    try:
        wanted = jmespath.search(expression, value)
    except Exception as wrong:
        with pytest.raises((type(wrong), query.QueryError)):
            query.compile_query(expression)(value)
        return
    got = query.compile_query(expression)(value)
    assert repr(got) == repr(wanted)
