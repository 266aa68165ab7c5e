"""Compiles the trees of expressions to one Python function, by writing its source.

Every statement assigns one variable; an equal node with the same input is not computed again, its variable is used.
A variable that was assigned in a loop or a branch is used only inside it. From the file only texts and whole numbers get
into the source, as their repr; all other values are constants that the source names. So no text of a file is executed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from types import CodeType
from typing import Any, NamedTuple

from prx.lang.runtime import HELPERS
from prx.lang.tree import KINDS, Node

Function = Callable[[Any], Any]


class TooDeepError(Exception):
    """The expression is nested deeper than Python's grammar allows."""


class _Expression:
    """An `&expression` argument, as jmespath's functions expect it (they look at the class's name)."""

    def __init__(self, expression: Function) -> None:
        self.expression = expression

    @staticmethod
    def visit(expression: Function, value: Any) -> Any:
        return expression(value)


_ORDER: Mapping[str, str] = {"lt": "<", "lte": "<=", "gt": ">", "gte": ">="}
_MAX_INDENT = 15  # Python allows 20 nested loops


class Program(NamedTuple):
    """The code of a function, and the constants that it names. Files with the same expressions share one."""

    code: CodeType
    constants: Mapping[str, Any]

    def function(self) -> Function:
        namespace: dict[str, Any] = {**HELPERS, **self.constants}
        exec(self.code, namespace)  # noqa: S102 - of a source that this module has written
        # pop: a function that is among its own globals is a reference cycle, which only the garbage collector frees.
        function: Function = namespace.pop("query")
        return function


def build(trees: Sequence[Node], *, single: bool) -> Function:
    """One function for all the trees: it returns a tuple of their results, or with `single` the result of the only tree.

    Raises TooDeepError for more nesting than Python's grammar allows.
    """
    if single and trees[0]["type"] == "field":
        return _get_field(trees[0]["value"])
    return program(trees, single=single).function()


def program(trees: Sequence[Node], *, single: bool) -> Program:
    """The code of the function that `build` gives. Raises TooDeepError."""
    code = _Code()
    try:
        results = [code.emit(tree, "value") for tree in trees]
        code.line(f"return {results[0]}" if single else f"return ({''.join(name + ', ' for name in results)})")
        return Program(_compiled("def query(value):\n" + "\n".join(code.lines)), code.constants)
    except (SyntaxError, RecursionError, MemoryError):
        raise TooDeepError from None


@lru_cache(maxsize=256)
def _compiled(source: str) -> CodeType:
    # Cached: files of one dialect have mostly the same expressions, and so has a file before and after a reload. The code
    # holds only texts of its file; the function that is made of it is freed with the file.
    return compile(source, "<query>", "exec", dont_inherit=True)


def _get_field(name: str) -> Function:
    """The function of a single field, as most formulas are; to compile it would take forty times as long."""
    return lambda value: value.get(name) if type(value) is dict else None


class _Code:
    """Source being written. `emit` writes the lines that compute a node; it gives the name of the variable with the result."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.constants: dict[str, Any] = {}
        self.indent = 1
        self.known: list[dict[tuple[int, str], str]] = [{}]  # results by (node's number, input), one dict a block
        self.fields: list[dict[str, int]] = [
            {}
        ]  # by input: the line that reads the first field from it; one dict a block
        self.numbers: dict[tuple[Any, ...], int] = {}  # equal nodes have the same number
        self.numbered: dict[int, int] = {}  # by a node's id()
        self.count = 0
        self.truths: set[str] = set()  # variables that are true, false or null

    def line(self, text: str) -> None:
        self.lines.append(" " * self.indent + text)

    def name(self) -> str:
        self.count += 1
        return f"v{self.count}"

    def constant(self, value: Any) -> str:
        name = f"k{len(self.constants)}"
        self.constants[name] = value
        return name

    def open(self, text: str) -> None:
        if self.indent >= _MAX_INDENT:
            raise TooDeepError
        self.line(text)
        self.indent += 1
        self.known.append({})
        self.fields.append({})

    def close(self) -> None:
        self.indent -= 1
        self.known.pop()
        self.fields.pop()

    def number(self, node: Node) -> int:
        number = self.numbered.get(id(node))
        if number is None:
            inner = [self.number(child) if isinstance(child, dict) else child for child in node["children"]]
            content = (node["type"], repr(node.get("value")), *inner)
            number = self.numbered[id(node)] = self.numbers.setdefault(content, len(self.numbers))
        return number

    def emit(self, node: Node, value: str) -> str:
        key = (self.number(node), value)
        for block in self.known:
            if key in block:
                return block[key]
        result = _WRITERS[node["type"]](self, node, value)
        self.known[-1][key] = result
        return result

    # one method for each kind of node, named as jmespath names them

    def _identity(self, _node: Node, value: str) -> str:
        return value

    _current = _identity

    def _literal(self, node: Node, _value: str) -> str:
        return self.constant(node["value"])

    def _field(self, node: Node, value: str) -> str:
        out = self.name()
        first = next((block[value] for block in self.fields if value in block), None)
        if first is None:
            self.fields[-1][value] = len(self.lines)
            self.line(f"{out} = {value}.get({node['value']!r}) if type({value}) is dict else None")
        else:
            self._share_get(first, value)
            self.line(f"{out} = {value}_get({node['value']!r})")
        return out

    def _share_get(self, first: int, value: str) -> None:
        """Rewrite the line that reads the first of several fields: it keeps `.get` in a variable, which the others use."""
        own_get, condition = f"{value}.get(", f" if type({value}) is dict else None"
        text = self.lines[first]
        if text.endswith(condition):
            begin, call = text.removesuffix(condition).split(" = ", 1)
            indent = begin[: -len(begin.lstrip())]
            getter = f"{value}_get = {value}.get if type({value}) is dict else nothing"
            self.lines[first] = f"{indent}{getter}; {begin.lstrip()} = {value}_get({call.removeprefix(own_get)}"

    def _index(self, node: Node, value: str) -> str:
        out, place = self.name(), int(node["value"])
        exists = value if place in (0, -1) else f"len({value}) > {place}" if place >= 0 else f"len({value}) >= {-place}"
        self.line(f"{out} = {value}[{place}] if type({value}) is list and {exists} else None")
        return out

    def _slice(self, node: Node, value: str) -> str:
        out = self.name()
        place = ":".join("" if part is None else str(int(part)) for part in node["children"])
        self.line(f"{out} = {value}[{place}] if type({value}) is list else None")
        return out

    def _subexpression(self, node: Node, value: str) -> str:
        for child in node["children"]:
            value = self.emit(child, value)
        return value

    _index_expression = _pipe = _subexpression

    def _or_expression(self, node: Node, value: str) -> str:
        return self._choice(node, value, self.is_false)

    def _and_expression(self, node: Node, value: str) -> str:
        return self._choice(node, value, self.is_true)

    def _choice(self, node: Node, value: str, condition: Callable[[str], str]) -> str:
        out, (first, *others) = self.name(), _chain(node)
        operand = self.emit(first, value)
        self.line(f"{out} = {operand}")
        if operand in self.truths:
            self.truths.add(out)
        for other in others:
            self.open(f"if {condition(out)}:")
            operand = self.emit(other, value)
            self.line(f"{out} = {operand}")
            self.close()
            if operand not in self.truths:
                self.truths.discard(out)
        return out

    def is_true(self, name: str) -> str:
        """A condition: what a variable holds is true, as JMESPath sees it. Null comes first, since most of what is looked
        for is not there.
        """
        return name if name in self.truths else f"{name} is not None and ({name} or type({name}) in numbers)"

    def is_false(self, name: str) -> str:
        return (
            f"not {name}" if name in self.truths else f"({name} is None or not {name} and type({name}) not in numbers)"
        )

    def _not_expression(self, node: Node, value: str) -> str:
        out, inner = self.name(), self.emit(node["children"][0], value)
        self.line(f"{out} = {self.is_false(inner)}")
        self.truths.add(out)
        return out

    def _comparator(self, node: Node, value: str) -> str:
        out = self.name()
        left, right = (self._operand(child, value) for child in node["children"])
        if node["value"] in _ORDER:
            variables = [side for side in (left, right) if not _is_plain(side)]
            fits = " and ".join(f"(type({side}) is int or comparable({side}))" for side in variables) or "True"
            self.line(f"{out} = {left} {_ORDER[node['value']]} {right} if {fits} else None")
        elif any(
            _is_plain(side) and side[0] in "'\"" for side in (left, right)
        ):  # Python's == and JMESPath's agree on texts
            self.line(f"{out} = {left} {'!=' if node['value'] == 'ne' else '=='} {right}")
        else:
            self.line(f"{out} = {'not ' * (node['value'] == 'ne')}equals({left}, {right})")
        self.truths.add(out)
        return out

    def _operand(self, node: Node, value: str) -> str:
        """The source of an operand: a text or a whole number as a literal, anything else as the name of its variable."""
        plain = node["type"] == "literal" and type(node["value"]) in (str, int)
        return repr(node["value"]) if plain else self.emit(node, value)

    def _multi_select_list(self, node: Node, value: str) -> str:
        return self._unless_null(value, lambda: f"[{', '.join(self.emit(child, value) for child in node['children'])}]")

    def _multi_select_dict(self, node: Node, value: str) -> str:
        def build() -> str:
            pairs = [(child["value"], self.emit(child["children"][0], value)) for child in node["children"]]
            return f"{{{', '.join(f'{key!r}: {item}' for key, item in pairs)}}}"

        return self._unless_null(value, build)

    def _unless_null(self, value: str, build: Callable[[], str]) -> str:
        out = self.name()
        self.line(f"{out} = None")
        self.open(f"if {value} is not None:")
        self.line(f"{out} = {build()}")
        self.close()
        return out

    def _flatten(self, node: Node, value: str) -> str:
        out, item, base = self.name(), self.name(), self.emit(node["children"][0], value)
        self.line(f"{out} = [] if type({base}) is list else None")
        self.open(f"for {item} in {base} if {out} is not None else ():")
        self.line(f"{out}.extend({item}) if type({item}) is list else {out}.append({item})")
        self.close()
        return out

    def _projection(self, node: Node, value: str) -> str:
        base = self.emit(node["children"][0], value)
        return self._project(f"type({base}) is list", base, node)

    def _filter_projection(self, node: Node, value: str) -> str:
        base = self.emit(node["children"][0], value)
        return self._project(f"type({base}) is list", base, node, node["children"][2])

    def _value_projection(self, node: Node, value: str) -> str:
        base = self.emit(node["children"][0], value)
        return self._project(f"type({base}) is dict", f"{base}.values()", node)

    def _project(self, fits: str, items: str, node: Node, condition: Node | None = None) -> str:
        out, item = self.name(), self.name()
        self.line(f"{out} = [] if {fits} else None")
        self.open(f"for {item} in {items} if {out} is not None else ():")
        if condition is not None:
            wanted = self.emit(condition, item)
            self.line(f"if {self.is_false(wanted)}: continue")
        element = self.emit(node["children"][1], item)
        self.line(f"if {element} is not None: {out}.append({element})")
        self.close()
        return out

    def _function_expression(self, node: Node, value: str) -> str:
        out = self.name()
        arguments = ", ".join(self.emit(child, value) for child in node["children"])
        self.line(f"{out} = call({node['value']!r}, [{arguments}])")
        return out

    def _expref(self, node: Node, _value: str) -> str:
        return self.constant(_Expression(build([node["children"][0]], single=True)))


_WRITERS: Mapping[str, Callable[[_Code, Node, str], str]] = {
    kind: getattr(_Code, f"_{kind}") for kind in KINDS if kind != "key_val_pair"
}


def _chain(node: Node) -> list[Node]:
    """The operands of `a || b || c`, which is `(a || b) || c`."""
    left, right = node["children"]
    return [*_chain(left), right] if left["type"] == node["type"] else [left, right]


def _is_plain(operand: str) -> bool:
    """Whether an operand is a literal."""
    return not operand.isidentifier()
