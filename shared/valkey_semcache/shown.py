"""Values that show themselves: rows of text when printed, a table in Jupyter.

Rule of this file: text in, text out, and everything escaped on its way into HTML.
"""

from __future__ import annotations

from html import escape


class Shown:
    """Shows the rows that a subclass gives.

    No abstract class: whether an outcome is a `Hit` is asked at each look-up, and of such a class
    it is asked in Python.
    """

    __slots__ = ()

    def _rows(self) -> list[tuple[str, str]]:
        """Names and values, to be shown one below the other."""
        raise NotImplementedError

    def _repr_html_(self) -> str:
        left = "style='text-align:left'"
        cells = "".join(
            f"<tr><th {left}>{escape(name)}</th><td {left}>{escape(value)}</td></tr>"
            for name, value in self._rows()
        )
        return f"<table>{cells}</table>"

    def __str__(self) -> str:
        rows = self._rows()
        width = max(len(name) for name, _ in rows)
        return "\n".join(f"{name:<{width}}  {value}" for name, value in rows)
