"""What keeps two questions in different scopes.

Rule of this file: only digests of tenant, model and context are stored, so they are compared by
digests; what cannot be told from them is not guessed at. Exact features are found anew in the
stored question's text, where it is kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from valkey_semcache.digest import FORMAT
from valkey_semcache.question import Address, Addressing
from valkey_semcache.stored.answer import Envelope

ENTRY = ("p", "s", "b", "n", "i", "m", "v")
"""Fields that are compared."""

_NAMES = {
    "number": "numbers",
    "date": "dates",
    "time": "times of day",
    "quoted": "quotations",
    "link": "links",
    "script": "scripts",
    "own": "features=",
}


@dataclass(frozen=True, slots=True)
class Entry:
    """A stored entry's key and digests.

    Args:
        key: In Valkey.
        family: Its scope without exact features; None for one that is not met by meaning.
        namespace: Digest of the tenant.
        identity: Digest of the model with its parameters.
        model: Digest of the model's name.
        vector: Its vector's bytes, if it has one.
    """

    key: str
    family: str | None
    namespace: str | None
    identity: str | None
    model: str | None
    vector: bytes | None

    @classmethod
    def of(cls, key: str, values: Sequence[bytes | None]) -> Entry:
        """An entry by its fields, as `ENTRY` names them."""
        texts = [None if value is None else value.decode("latin-1") for value in values[2:-1]]
        family, namespace, identity, model = texts
        return cls(key, family, namespace, identity, model, values[-1])

    @property
    def scope(self) -> str:
        """Its scope, which its key carries."""
        return self.key.split(":")[2]


@dataclass(frozen=True, slots=True)
class Difference:
    """What differs between the question asked and a stored one.

    Args:
        parts: Of `tenant`, `model`, `context`, `features`.
        told: In words.
        proven: Whether the stored question is shown by its scope to be the same tenant's.
    """

    parts: tuple[str, ...]
    told: str
    proven: bool


class Differences:
    """Compares stored questions with one that is asked.

    Args:
        addressing: Makes the digests, and finds exact features.
        address: The asked question's.
        context: All that it was asked with.
        features: Its exact features.
    """

    def __init__(
        self, addressing: Addressing, address: Address, context: str, features: tuple[str, ...]
    ) -> None:
        self._addressing = addressing
        self._address = address
        self._context = context
        self._features = features

    def of(self, entry: Entry, envelope: Envelope) -> Difference:
        """What keeps an entry from the question."""
        address, digests = self._address, self._addressing.digests
        namespace, identity = entry.namespace or "", entry.identity or ""
        found: dict[str, str] = {}
        if namespace != address.namespace_digest:
            found["tenant"] = "another tenant"
        if identity != address.identity_digest:
            found["model"] = self._model(entry, envelope)
        ours = digests("family", str(FORMAT), namespace, identity, self._context)
        theirs = self._features_of(entry, envelope, entry.family or ours)
        # One that is not met by meaning says nothing of its context but by its scope.
        same_context = entry.family == ours if entry.family else theirs is not None
        if not same_context:
            found["context"] = "another context (system prompt, earlier turns, passages, tools)"
        if theirs is None and (entry.family or same_context):
            found["features"] = "other numbers, dates, quotations, links or code"
        elif theirs is not None and theirs != self._features:
            found["features"] = told_apart(self._features, theirs)
        proven = same_context and theirs is not None and "tenant" not in found
        return Difference(tuple(found), "; ".join(found.values()), proven)

    def _model(self, entry: Entry, envelope: Envelope) -> str:
        if entry.model == self._address.model_digest:
            return "other parameters of the model, or another corpus"
        asked, stored = self._address.model or "(unnamed)", envelope.model or "(unnamed)"
        return f"another model: {asked} here, {stored} there"

    def _features_of(self, entry: Entry, envelope: Envelope, family: str) -> tuple[str, ...] | None:
        """The exact features of which, with the family, an entry's scope is made; None if they
        cannot be told."""
        tried = [self._features]
        if envelope.question is not None:
            tried.append(self._addressing.features(envelope.question)[1])
        if entry.family is None:
            tried.append(())  # found by its very words only, as a rule it has none
        made = (f for f in tried if self._addressing.digests("scope", family, *f) == entry.scope)
        return next(made, None)


def told_apart(here: Sequence[str], there: Sequence[str]) -> str:
    """In which exact features two questions differ, kind by kind: "numbers: 2023 here, 2024
    there"."""
    asked, stored = grouped(here), grouped(there)
    kinds = [kind for kind in {**asked, **stored} if asked.get(kind) != stored.get(kind)]
    return "; ".join(
        f"{kind}: {', '.join(asked.get(kind, ())) or 'none'} here, "
        f"{', '.join(stored.get(kind, ())) or 'none'} there"
        for kind in kinds
    )


def grouped(features: Sequence[str]) -> dict[str, list[str]]:
    """Exact features by kind, in words that people read."""
    found: dict[str, list[str]] = {}
    for feature in features:
        kind, _, value = feature.partition(":")
        found.setdefault(_NAMES.get(kind, kind), []).append(value)
    return found
