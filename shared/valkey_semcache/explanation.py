"""Why a question hits or misses, as an object that shows itself.

Rule of this file: values and their showing: text, rich text in a terminal, HTML in Jupyter, plain
values for JSON. Secrets are out before anything gets here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from html import escape
from typing import TYPE_CHECKING, Any

from valkey_semcache.outcome import Hit, Miss

if TYPE_CHECKING:
    from rich.console import Group

_NOT_KEPT = "(text not kept)"
_ALONE = frozenset(
    {
        "",
        '[{"class": "HumanMessage", "content": {"after": "", "before": ""}, "type": "human"}]',
        '["text", "", ""]',
        '["chat", [{"blocks": [[null], "", ""], "extra": {}, "role": "user"}]]',
        '["completion", "", "", false]',
    }
)
"""Contexts of requests that are nothing but a question, by LangChain and by LlamaIndex: to a person
they say no more than that. All others are shown as they are compared."""
_LEFT = "style='text-align:left;vertical-align:top'"


@dataclass(frozen=True, slots=True)
class Near:
    """A stored question near the one asked.

    Args:
        question: Its wording, or None where it is not kept or not to be shown.
        similarity: Cosine similarity, -1 to 1.
        because: Why it was served or refused, or what keeps it in another scope.
        apart: What does: of `"features"`, `"context"`, `"model"`, `"tenant"`; empty for one in
            the scope.
        served: Whether it is the one that was served.
        key: Its key in Valkey.
    """

    question: str | None
    similarity: float
    because: str
    apart: tuple[str, ...] = ()
    served: bool = False
    key: str = ""


@dataclass(frozen=True, slots=True)
class Scope:
    """What two questions must have in common to meet; secrets are out, and long parts cut.

    Args:
        namespace: The tenant.
        model: The model's name.
        identity: The model with its parameters.
        context: All that the answer depends on beside the question.
        features: What must be the same to the letter in the question, by kind.
        key: The key in Valkey that an answer to just these words has.
    """

    namespace: str
    model: str
    identity: str
    context: str
    features: Mapping[str, list[str]]
    key: str


@dataclass(frozen=True, slots=True)
class Explanation:
    """What a look-up would do, and why. Nothing was changed to find out.

    `print` shows it as text, rich and Jupyter as tables.

    Args:
        outcome: What `lookup` gives: the hit, or the miss with its reason.
        text: What is compared by meaning, as it would be embedded.
        embedded: Whether the look-up came so far as to embed it.
        exact_reason: Why it is found by its very words only; empty if it is not.
        embedding: The embedding model's name.
        threshold: The similarity from which another wording is served; None where rules were not
            asked for one.
        scope: What must be the same; None for a request that the cache takes no part in.
        neighbours: Stored questions near it, in its scope and in others, the nearest first.
        timings: Milliseconds by step of the look-up, and of this explanation beside.
        remarks: What else is worth knowing.
    """

    outcome: Hit | Miss
    text: str
    embedded: bool
    exact_reason: str
    embedding: str
    threshold: float | None
    scope: Scope | None
    neighbours: tuple[Near, ...] = ()
    timings: Mapping[str, float] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()

    @property
    def hit(self) -> bool:
        """Whether the question hits."""
        return bool(self.outcome)

    @property
    def verdict(self) -> str:
        """The outcome in two words: `exact hit`, `miss: below_threshold`."""
        outcome = self.outcome
        return f"{outcome.tier} hit" if isinstance(outcome, Hit) else f"miss: {outcome.reason}"

    @property
    def reason(self) -> str:
        """Why, in words."""
        outcome = self.outcome
        if isinstance(outcome, Miss):
            told = outcome.detail or outcome.reason
            apart = self.kept_apart
            if apart is None:
                return told
            what = f"A question of similarity {apart.similarity:.4f} is"
            if self.exact_reason:
                what = "These very words are"
            return f"{told}. {what} stored, but kept apart: {apart.because}"
        if outcome.tier == "semantic":
            return (
                f"the similarity {outcome.similarity:.4f} reaches the threshold {self.threshold}, "
                "and nothing objected"
            )
        where = "held in this process" if outcome.tier == "local" else "stored"
        if outcome.asked != outcome.key:
            return f"these words are {where} as another wording of a stored question"
        return f"these very words are {where}"

    @property
    def kept_apart(self) -> Near | None:
        """The nearest stored question that another scope alone keeps from being served."""
        reach = self.threshold or 0.0
        apart = (near for near in self.neighbours if near.apart and near.similarity >= reach)
        return next(apart, None)

    def as_dict(self) -> dict[str, Any]:
        """All of it but the answer, as plain values, such as JSON can hold."""
        outcome = self.outcome
        told: dict[str, Any] = {"hit": self.hit, "verdict": self.verdict, "reason": self.reason}
        if isinstance(outcome, Hit):
            told |= {"tier": outcome.tier, "similarity": outcome.similarity, "age": outcome.age}
            told |= {"stored_question": outcome.question, "key": outcome.key}
        else:
            told |= {"miss": outcome.reason}
        return told | {
            "text": self.text,
            "embedded": self.embedded,
            "exact_only": self.exact_reason or None,
            "embedding": self.embedding,
            "threshold": self.threshold,
            "scope": None if self.scope is None else asdict(self.scope),
            "neighbours": [asdict(near) for near in self.neighbours],
            "timings_ms": {step: round(ms, 3) for step, ms in self.timings.items()},
            "remarks": list(self.remarks),
        }

    # Shown

    def __str__(self) -> str:
        lines = [f"{self.verdict}: {self.reason}"]
        for title, rows in self._parts():
            lines += ["", title]
            width = max(len(name) for name, _ in rows)
            lines += [f"  {name:<{width}}  {value}" for name, value in rows]
        if self.neighbours:
            lines += ["", "nearest"]
            for near in self.neighbours:
                lines.append(f"  {near.similarity:.4f}  {_question(near)}")
                lines.append(f"          {_standing(near)}: {near.because}")
        return "\n".join([*lines, "", *self._notes()])

    def _repr_html_(self) -> str:
        parts = [f"<p><b>{escape(self.verdict)}</b>: {escape(self.reason)}</p>"]
        rows = [row for _, rows in self._parts() for row in rows]
        parts.append(_html(rows))
        if self.neighbours:
            head = ("similarity", "stored question", "", "because")
            near = [(f"{n.similarity:.4f}", _question(n), *_why(n)) for n in self.neighbours]
            parts.append(_html(near, head))
        parts += [f"<p>{escape(note)}</p>" for note in self._notes()]
        return "".join(parts)

    def __rich__(self) -> Group:
        from rich import box
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        shown: list[Any] = [
            Text.assemble((self.verdict, "bold green" if self.hit else "bold yellow")),
            Text(self.reason),
        ]
        about = Table(box=box.SIMPLE, show_header=False, padding=(0, 1, 0, 0))
        about.add_column(style="dim", no_wrap=True)
        about.add_column(overflow="fold")
        for _, rows in self._parts():
            for name, value in rows:
                about.add_row(Text(name), Text(value))
            about.add_section()
        shown.append(about)
        if self.neighbours:
            table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
            table.add_column("similarity", justify="right", no_wrap=True)
            table.add_column("stored question", ratio=2)
            table.add_column("", no_wrap=True)
            table.add_column("because", ratio=3)
            for near in self.neighbours:
                standing, because = _why(near)
                style = "green" if near.served else "" if near.apart else "yellow"
                cells = (f"{near.similarity:.4f}", _question(near), standing, because)
                table.add_row(*(Text(cell, style=style) for cell in cells))
            shown.append(table)
        return Group(*shown, *(Text(note, style="dim") for note in self._notes()))

    def _parts(self) -> list[tuple[str, list[tuple[str, str]]]]:
        """Titles with names and values."""
        asked = [("text", self.text or "(none)"), ("compared", self._compared())]
        if self.scope is None:
            return [("asked", asked)]
        scope = self.scope
        kinds = [f"{kind}: {', '.join(values)}" for kind, values in scope.features.items()]
        must = [
            ("tenant", scope.namespace or "(the one without a name)"),
            ("model", scope.model or "(unnamed)"),
            ("identity", scope.identity or "(none)"),
            ("context", "(none)" if scope.context in _ALONE else scope.context),
            ("exact features", "; ".join(kinds) or "(none)"),
        ]
        return [("asked", asked), ("must be the same", must)]

    def _compared(self) -> str:
        if self.exact_reason:
            return f"by its very words only: {self.exact_reason}"
        if not self.embedded:
            needed = "it was not needed" if self.hit else "the look-up came to an end before"
            return f"not by meaning: {needed}"
        return f"by meaning, from a similarity of {self.threshold} on; {self.embedding}"

    def _notes(self) -> list[str]:
        times = " · ".join(f"{step} {ms:.2f}" for step, ms in self.timings.items())
        return [*self.remarks, *([f"milliseconds: {times}"] if times else [])]


def _question(near: Near) -> str:
    return _NOT_KEPT if near.question is None else near.question


def _standing(near: Near) -> str:
    if near.served:
        return "served"
    return "kept apart" if near.apart else "refused"


def _why(near: Near) -> tuple[str, str]:
    return _standing(near), near.because


def _html(rows: list[Any], head: tuple[str, ...] = ()) -> str:
    """A table, everything escaped."""
    heads = "".join(f"<th {_LEFT}>{escape(name)}</th>" for name in head)
    body = "".join(
        "<tr>" + "".join(f"<td {_LEFT}>{escape(cell)}</td>" for cell in row) + "</tr>"
        for row in rows
    )
    return f"<table>{f'<tr>{heads}</tr>' if heads else ''}{body}</table>"
