"""Records: what a frozen dataclass would be."""

from __future__ import annotations

import copy
import pickle

import pytest

import prx
from prx.accounts.config import Settings
from prx.record import Record


class Point(Record):
    x: int
    y: int = 0


class Named(Point):
    name: str = "?"


def test_fields():
    assert (Named(1).x, Named(1, 2).y, Named(1, name="n").name) == (1, 2, "n")
    assert Named(1)._replace(y=5) == Named(1, 5)
    assert repr(Named(1)) == "Named(x=1, y=0, name='?')"
    assert len({Named(1), Named(1), Named(2)}) == 2
    assert Point(1) != Named(1)


@pytest.mark.parametrize(("given", "named"), [((), {}), ((1,), {"z": 1}), ((1, 2, 3), {}), ((1,), {"x": 1})])
def test_what_is_no_field(given, named):
    with pytest.raises(TypeError, match="Point requires"):
        Point(*given, **named)


def test_frozen():
    for change in (lambda: setattr(Point(1), "x", 2), lambda: delattr(Point(1), "x")):
        with pytest.raises(AttributeError, match="cannot be changed"):
            change()


def test_copies():
    settings = Settings("x")._replace(model="m")
    for again in (copy.copy(settings), copy.deepcopy(settings), pickle.loads(pickle.dumps(settings))):
        assert again == settings


def test_each_reply_has_a_message_of_its_own():
    prx.Reply("a").message.update(role="user")
    assert prx.Reply().message == {}
