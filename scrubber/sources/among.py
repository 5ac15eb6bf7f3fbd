"""Long lists in a statement: written as they stand, since thousands of parameters cost a lot."""

from collections.abc import Callable, Collection
from typing import Any

from sqlalchemy import ColumnElement, Dialect, Integer, bindparam
from sqlalchemy.types import TypeEngine


class _List(TypeEngine[Collection[Any]]):
    """The values of one column, between parentheses."""

    cache_ok = True

    def __init__(self, element: TypeEngine[Any]) -> None:
        self.element = element

    def literal_processor(self, dialect: Dialect) -> Callable[[Collection[Any]], str]:
        # int's own refuses whatever is no number.
        each = int.__repr__ if isinstance(self.element, Integer) else self._quoted(dialect)
        return lambda values: f"({', '.join(map(each, values)) or 'NULL'})"

    def _quoted(self, dialect: Dialect) -> Callable[[Any], str]:
        quoted = self.element.literal_processor(dialect)
        assert quoted is not None, "lists are of numbers or of text"
        return quoted


def among(column: ColumnElement[Any], values: Collection[Any]) -> ColumnElement[bool]:
    """Whether the column holds one of the values: numbers or text, any number of them."""
    listed = bindparam(None, values, type_=_List(column.type), literal_execute=True, unique=True)
    return column.op("IN", is_comparison=True)(listed)


def among_given(column: ColumnElement[Any], name: str) -> ColumnElement[bool]:
    """Likewise, of values that are given, by that name, when the statement is executed.

    For what is asked all the time: a statement takes longer to build than to execute.
    """
    return column.op("IN", is_comparison=True)(_given(column, name))


def not_among_given(column: ColumnElement[Any], name: str) -> ColumnElement[bool]:
    """Whether it holds none of them; there has to be at least one."""
    return column.op("NOT IN", is_comparison=True)(_given(column, name))


def _given(column: ColumnElement[Any], name: str) -> ColumnElement[Any]:
    return bindparam(name, type_=_List(column.type), literal_execute=True)
