"""The two little languages, by data: queries against jmespath's own answers, functions and templates by results."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import jmespath
import pytest
from helpers import data_files, properties
from helpers.examples import settled
from hypothesis import given
from hypothesis import strategies as st
from jmespath.exceptions import JMESPathError

from prx.lang import bounds, codegen, own, query, runtime, tree
from prx.lang.functions import FUNCTIONS, OWN
from prx.lang.template import WORDS, Template, TemplateError, holds

HERE = Path(__file__).parent / "lang"


def rows(name):
    return [(group["given"], case) for group in data_files.read(HERE / name) for case in group["cases"]]


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


@pytest.mark.parametrize(
    "expression", ["[" * 400, "a" * 501, "(" * 300 + "a" + ")" * 300, "`[" + "9" * 5000 + "]`", "!" * 300 + "a"]
)
def test_monsters_are_refused(expression):
    with pytest.raises(query.QueryError):
        query.checked(expression)


NAMES = st.sampled_from(["a", "b", "c"])
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-2, 3)
    | st.sampled_from([0.0, 1.5, -0.5])
    | st.sampled_from(["", "a", "b", "ab", "1", "é", '{"a":1}', "[1]"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=14,
)
LEAVES = NAMES | st.sampled_from(
    ["@", '"a"', "`0`", "`1`", "`-1.5`", "`null`", "`true`", "`false`", "''", "'a'", "'b'", "`[]`", "`{}`", '`[1, "a", null]`', '`{"a": {"b": 1}}`']
)  # fmt: skip
STEPS = st.sampled_from(
    ["0", "-1", "5", ":", "1:", ":-1", "::2", "::-1", "-2:", "*", "", "?a", "?a == `1`", "?!(b)", "?a || b && !c", "?@", "?type(@) == 'number'"]
)  # fmt: skip
OPERATORS = st.sampled_from(["||", "&&", "|", "==", "!=", "<", "<=", ">", ">="])
WITH_ONE = st.sampled_from(
    ["abs", "avg", "ceil", "compact", "floor", "as_list", "keys", "length", "lower", "max", "merge", "min", "not_null", "parse_json", "reverse",
     "sort", "sum", "to_array", "to_json", "to_number", "to_string", "total", "type", "values"]
)  # fmt: skip
WITH_TWO = st.sampled_from(
    ["contains", "ends_with", "join", "like", "merge", "not_null", "says", "starts_with", "total", "without_prefix"]
)
BY = st.sampled_from(["max_by", "min_by", "sort_by"])


def larger(inner):
    return st.one_of(
        st.builds("({}).{}".format, inner, NAMES),
        st.builds("{}.[{}]".format, NAMES, inner),
        st.builds("({})[{}]".format, inner, STEPS),
        st.builds("({})[{}].{}".format, inner, STEPS, NAMES),
        st.builds("({}) {} ({})".format, inner, OPERATORS, inner),
        st.builds("{} || {} && !{}".format, NAMES, inner, NAMES),
        st.builds("({})[?{}]".format, inner, inner),
        st.builds("({})[*].[{}, {}]".format, inner, inner, inner),
        st.builds("!({})".format, inner),
        st.builds("({}).*".format, inner),
        st.builds("({}).*.{}".format, inner, NAMES),
        st.builds("[{}, {}]".format, inner, inner),
        st.builds("{{x: {}, y: {}}}".format, inner, inner),
        st.builds("({})[].{{x: {}}}".format, inner, inner),
        st.builds("{}({})".format, WITH_ONE, inner),
        st.builds("{}({}, {})".format, WITH_TWO, inner, inner),
        st.builds("map(&{}, {})".format, inner, inner),
        st.builds("{}({}, &{})".format, BY, inner, inner),
    )


EXPRESSIONS = st.recursive(LEAVES, larger, max_leaves=6).filter(lambda text: len(text) <= query.MAX_LENGTH)


@settled(250)
@given(EXPRESSIONS, VALUES)
def test_compiled_is_jmespath(expression, value):
    """Any expression over any value, with our own functions among its own: the same result, or a refusal in both."""
    properties.same_as_jmespath(expression, [value])


@settled(80)
@given(st.lists(EXPRESSIONS, min_size=2, max_size=4), VALUES)
def test_compiled_together_is_each_alone(expressions, value):
    properties.alone_and_together(expressions, [value])


@settled(120)
@given(EXPRESSIONS, VALUES)
def test_a_tree_goes_to_disk_and_back(expression, value):
    try:
        parsed = query.checked(expression)
    except query.QueryError:
        return
    again = tree.unpacked(json.loads(json.dumps(tree.packed(parsed))))
    assert tree.packed(again) == tree.packed(parsed)
    assert bounds.of_query(again) == bounds.of_query(parsed)
    with contextlib.suppress(codegen.TooDeepError):
        written = codegen.build([again], single=True)
        assert properties.answer(written, value) == properties.answer(query.compile_query(expression), value)


@settled(120)
@given(st.text(st.sampled_from("ab01@&|!?*.,:[](){}<>='`\"\\ \n-é\ud800"), max_size=12), VALUES)
def test_any_text_as_an_expression(text, value):
    properties.as_jmespath(text, [value])


# ------------------------------------------------------------------ templates, held against a reading of their description

FORMULAS = EXPRESSIONS.map("={}".format)
TEMPLATES = st.recursive(
    FORMULAS | st.sampled_from([None, True, 0, "a", "plain", {}, []]),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(NAMES, inner, max_size=3),
        st.builds(lambda rest, when: {**rest, "when": when}, st.dictionaries(NAMES, inner, max_size=2), EXPRESSIONS),
        st.builds(lambda when, value: {"when": when, "value": value}, EXPRESSIONS, inner),
        st.builds(lambda each, item: {"each": each, "item": item}, EXPRESSIONS, inner),
        st.builds(lambda each: {"each": each}, EXPRESSIONS),
        st.builds(lambda match, cases: {"match": match, "cases": cases}, EXPRESSIONS, st.dictionaries(st.sampled_from(["a", "true", "1", "null"]), inner, max_size=3)),
        st.builds(lambda match, default: {"match": match, "cases": {"a": 1}, "else": default}, EXPRESSIONS, inner),
        st.builds(lambda parts: {"merge": parts}, st.lists(inner, max_size=3)),
    ),
    max_leaves=6,
)  # fmt: skip


class NoFormError(Exception):
    """The reference's word for what a template has no case for."""


def rendered(node, value):
    """What a template says, read off its description: the slow way, node by node."""
    if isinstance(node, str):
        return jmespath.search(node[1:], value, properties.OPTIONS) if node.startswith("=") else node
    if isinstance(node, list):
        return rendered_list(node, value)
    if not isinstance(node, dict):
        return node
    word = next((word for word in RENDERED if word in node), None)
    return RENDERED[word](node, value) if word else rendered_mapping(node, value)


def rendered_mapping(node, value):
    made = {key: found for key, child in node.items() if (found := rendered(child, value)) is not None}
    return made if made or not node else None


def rendered_list(node, value):
    made = []
    for child in node:
        found = rendered(child, value)
        spliced = isinstance(child, dict) and "each" in child and "when" not in child
        made += [] if found is None else found if spliced else [found]
    return made if made or not node else None


def rendered_when(node, value):
    rest = {key: child for key, child in node.items() if key != "when"}
    if not holds(jmespath.search(node["when"], value, properties.OPTIONS)):
        return None
    return rendered(rest["value"] if rest.keys() == {"value"} else rest, value)


def rendered_each(node, value):
    elements = jmespath.search(node["each"], value, properties.OPTIONS) or ()
    made = [found for element in elements if (found := rendered(node.get("item", "=@"), element)) is not None]
    return ([part for found in made for part in found] if isinstance(node.get("item"), list) else made) or None


def rendered_match(node, value):
    found = jmespath.search(node["match"], value, properties.OPTIONS)
    name = found if isinstance(found, str) else json.dumps(found)
    if name in node["cases"]:
        return rendered(node["cases"][name], value)
    if "else" not in node and found is not None:
        raise NoFormError
    return rendered(node["else"], value) if "else" in node else None


def rendered_merge(node, value):
    parts = [rendered(part, value) for part in node["merge"]]
    return {key: item for part in parts if isinstance(part, dict) for key, item in part.items()} or None


RENDERED = {"when": rendered_when, "each": rendered_each, "match": rendered_match, "merge": rendered_merge}


@settled(150)
@given(TEMPLATES, VALUES)
def test_a_template_says_what_its_description_says(source, value):
    template = Template(source)
    if template.problems:
        return
    try:
        wanted = repr(rendered(source, value))
    except (NoFormError, JMESPathError, TypeError) as refused:
        with pytest.raises(TemplateError if isinstance(refused, NoFormError) else (JMESPathError, TypeError)):
            template(value)
        return
    assert repr(template(value)) == wanted


@pytest.mark.parametrize("name", sorted(own.STANDARD))
@given(st.lists(st.recursive(st.none() | st.booleans() | st.integers(-2, 2) | st.floats(-1, 1) | st.sampled_from(["", "a", "ab"]),
                             lambda values: st.lists(values, max_size=3) | st.dictionaries(st.sampled_from("abc"), values, max_size=2)), max_size=3))  # fmt: skip
def test_functions_of_jmespath_that_stand_here_too(name, arguments):
    """As jmespath's own, for any arguments; what it refuses is refused."""

    def outcome(run):
        try:
            return run()
        except Exception as error:
            return type(error)

    assert repr(outcome(lambda: runtime.call(name, arguments))) == repr(
        outcome(lambda: FUNCTIONS.call_function(name, arguments))
    )
