"""Text by its bytes, whatever else a column's collation takes for the same.

MariaDB and MySQL compare without regard to case, accents and blanks at the end, unless told
otherwise.  What is passed over because of its text must be that text.
"""

from typing import Any

from sqlalchemy import ColumnElement, String, and_, func
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement


class Exactly(FunctionElement[str]):
    """A text that is compared byte by byte."""

    type = String()
    inherit_cache = True


@compiles(Exactly, "mysql", "mariadb")
def _on_mysql(element: Exactly, compiler: SQLCompiler, **options: Any) -> str:
    return f"CAST({compiler.process(element.clauses, **options)} AS BINARY)"


@compiles(Exactly, "postgresql")
def _on_postgresql(element: Exactly, compiler: SQLCompiler, **options: Any) -> str:
    return f'(({compiler.process(element.clauses, **options)}) COLLATE "C")'


@compiles(Exactly, "sqlite")
def _on_sqlite(element: Exactly, compiler: SQLCompiler, **options: Any) -> str:
    return f"(({compiler.process(element.clauses, **options)}) COLLATE BINARY)"


class _Ascii(FunctionElement[str]):
    """A text without what is not ASCII: some of that is ASCII's to whom case is all the same."""

    type = String()
    inherit_cache = True


@compiles(_Ascii)
def _as_it_is(element: _Ascii, compiler: SQLCompiler, **options: Any) -> str:
    return compiler.process(element.clauses, **options)


@compiles(_Ascii, "mysql", "mariadb")
def _converted(element: _Ascii, compiler: SQLCompiler, **options: Any) -> str:
    # And back: MySQL does not always let ASCII meet the character set of a connection.
    text = compiler.process(element.clauses, **options)
    return f"CONVERT(CONVERT({text} USING ascii) USING utf8mb4)"


def has_only(text: ColumnElement[str], characters: str, length: int) -> ColumnElement[bool]:
    """Whether it is so many ASCII characters of this class, written as in a regular expression."""
    odd = _Ascii(text).regexp_match(f"[^{characters}]")
    return and_(func.length(text) == length, ~odd)
