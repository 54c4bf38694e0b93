"""What is asked: text, context, identity and namespace, and the address they give.

Rule of this file: a request becomes an `Address` here and nowhere else. No I/O, no
framework's types. Text is compared by meaning; everything else must be the same.
"""

from __future__ import annotations

import copy
import json
import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

from valkey_semcache.digest import FORMAT, Digests
from valkey_semcache.errors import ConfigurationError
from valkey_semcache.recent import Recent
from valkey_semcache.text.features import Features, exact_features, own_features

# A line that is indented, or a fence that `exact_features` does not read as code.
_LAID_OUT = re.compile(r"\n[ \t]+\S|^~~~", re.MULTILINE)

_REMEMBERED = 1024
_SHORT = 4096  # characters that what is remembered may have
_ADDRESSES = 4 * 2**20  # bytes of addresses that are remembered, about, once or twice as many
_OVERHEAD = 1000  # bytes that one of them takes beside its question's characters, about


@dataclass(frozen=True, slots=True)
class Question:
    """One request to a model, split into what may differ in wording and what may not.

    Args:
        text: What the user asked in the last turn. This alone is embedded and compared.
        context: Everything else that the answer depends on (system prompt, earlier turns,
            retrieved passages, tool schemas), written in one canonical way.
        identity: Which model with which parameters, e.g. LangChain's `llm_string`.
        model: The model's name, for statistics and for clearing by model. Not compared.
        namespace: The tenant, which is then final; None for the one who asks, as block, function,
            view or default name it (see `SemanticCache.namespace`).
        exact_only: True, or the reason in words, when this request must never be compared
            by meaning.
    """

    text: str
    context: str = ""
    identity: str = ""
    model: str = ""
    namespace: str | None = None
    exact_only: bool | str = False

    def __post_init__(self) -> None:
        if not (
            isinstance(self.text, str)
            and isinstance(self.context, str)
            and isinstance(self.identity, str)
            and isinstance(self.model, str)
            and isinstance(self.namespace, str | None)
        ):
            raise self._of_wrong_type()

    def _of_wrong_type(self) -> ConfigurationError:
        for name in ("text", "context", "identity", "model"):
            if not isinstance(value := getattr(self, name), str):
                return ConfigurationError(
                    f"Question({name}=…) takes a string, not {type(value).__name__}."
                )
        return ConfigurationError(
            "Question(namespace=…) takes a string, or None for the cache's own namespace, "
            f"not {type(self.namespace).__name__}."
        )

    def asked_by(self, namespace: str) -> Question:
        """The same question, asked by a tenant."""
        parts = self.text, self.context, self.identity, self.model
        return Question(*parts, namespace, self.exact_only)


class Address(NamedTuple):
    """Where a question's entry lies, and which entries it may meet.

    `scope` and `family` are digests: the scope of everything but the text's wording, the
    family without the exact features. `exact_reason` is empty when the question may be
    compared by meaning.
    """

    key: str
    text: str
    text_digest: str
    scope: str
    family: str
    model: str
    model_digest: str
    namespace_digest: str
    identity_digest: str
    exact_reason: str

    @property
    def semantic(self) -> bool:
        """Whether the question may be compared by meaning."""
        return not self.exact_reason


class _Scope(NamedTuple):
    """What an address has in common with all others of its scope and model."""

    keys: str
    scope: str
    family: str
    model_digest: str
    namespace_digest: str
    identity_digest: str


class Addressing:
    """Turns questions into addresses, for one cache name and one embedding model.

    Args:
        prefix: `NAME:EMB:`, before every entry's key.
        digests: The digest function, keyed or not.
        max_semantic_chars: Longer texts are exact-only, in characters: an embedding model
            truncates them or blurs their parts.
        volatile: Patterns whose matches are taken out of text and context before anything
            else (today's date, a request id).
        features: Finds more that must match to the letter than `exact_features` does.
        failed: Told of each error of `features`; may raise it. The question is exact-only then.
    """

    def __init__(
        self,
        prefix: str,
        digests: Digests,
        max_semantic_chars: int,
        volatile: Sequence[str | re.Pattern[str]] = (),
        features: Features | None = None,
        failed: Callable[[Exception], None] | None = None,
    ) -> None:
        self.prefix = prefix
        self.digests = digests
        self.max_semantic_chars = max_semantic_chars
        # The same few namespaces, models, identities and contexts come again and again, and a
        # question at its look-up and at its store.
        self._recurring = lru_cache(maxsize=_REMEMBERED)(digests)
        self._recurring_scope = lru_cache(maxsize=_REMEMBERED)(self._scope)
        self._known: Recent[tuple[str | bool, ...], Address] = Recent(_ADDRESSES)
        self.volatile = tuple(re.compile(pattern) for pattern in volatile)
        self._own_features = features
        self._failed = failed

    def address(self, question: Question, namespace: str) -> Address:
        """The address of `question`, in `namespace` unless it names one of its own."""
        if question.namespace is not None:
            namespace = question.namespace
        # A function of the app's may answer differently each time.
        if self._own_features is not None:
            return self._new_address(question, namespace)
        text, context, identity = question.text, question.context, question.identity
        # By its parts: a dataclass is hashed and compared in Python.
        asked = text, context, identity, question.model, namespace, question.exact_only
        address = self._known.get(asked)
        if address is None:
            address = self._new_address(question, namespace)
            length = len(context) + len(text) + len(identity)
            if length <= _SHORT:
                self._known.put(asked, address, length + _OVERHEAD)
        return address

    def forget(self) -> None:
        """Forget which questions were asked before, as a new process has (for measuring)."""
        self._known.clear()

    def _new_address(self, question: Question, namespace: str) -> Address:
        text, context, features, reason = self.parts(question)
        scope_of = self._recurring_scope if len(context) <= _SHORT else self._scope
        model, identity = question.model, question.identity
        # Its digest, for an identity may be as long as all tools' schemas: those are not kept here.
        scope = scope_of(namespace, self._recurring("identity", identity), model, context, features)
        text_digest = self.digests("text", text)
        return Address(
            key=scope.keys + text_digest,
            text=text,
            text_digest=text_digest,
            scope=scope.scope,
            family=scope.family,
            model=model,
            model_digest=scope.model_digest,
            namespace_digest=scope.namespace_digest,
            identity_digest=scope.identity_digest,
            exact_reason=reason,
        )

    def _scope(
        self,
        namespace: str,
        identity_digest: str,
        model: str,
        context: str,
        features: tuple[str, ...],
    ) -> _Scope:
        namespace_digest = self._recurring("namespace", namespace)
        family = self.digests("family", str(FORMAT), namespace_digest, identity_digest, context)
        scope = self.digests("scope", family, *features)
        return _Scope(
            keys=f"{self.prefix}{scope}:",
            scope=scope,
            family=family,
            model_digest=self._recurring("model", model),
            namespace_digest=namespace_digest,
            identity_digest=identity_digest,
        )

    def parts(self, question: Question) -> tuple[str, str, tuple[str, ...], str]:
        """What is compared: text, context, exact features, and why the question is exact-only
        ("" if it is not)."""
        text, context = question.text, question.context
        if self.volatile:
            text, context = self._steady(text), self._steady_context(context)
        reason = self._exact_reason(question, text)
        if reason:
            return text, context, (), reason
        reason, features = self.features(text)
        return text if reason else normalised(text), context, features, reason

    def quiet(self) -> Addressing:
        """The same, which tells nobody of errors of `features`."""
        same = copy.copy(self)
        same._failed = None
        return same

    def features(self, text: str) -> tuple[str, tuple[str, ...]]:
        """Why the text is exact-only, "" if it is not, and what must match to the letter."""
        if self._own_features is None:
            return "", exact_features(text)
        try:
            return "", exact_features(text) + own_features(self._own_features, text)
        except Exception as error:  # noqa: BLE001 - the cache never breaks the call
            if self._failed is not None:
                self._failed(error)
            return f"features= raised {type(error).__name__}", ()

    def _steady(self, text: str) -> str:
        """`text` without its volatile parts."""
        for pattern in self.volatile:
            text = pattern.sub("", text)
        return text

    def _steady_context(self, context: str) -> str:
        """The same for each string in a context that is JSON, as the adapters write it.

        A pattern sees one message's text, not the quotes and escapes around it.
        """
        try:
            parts = json.loads(context)
        except (ValueError, RecursionError):
            return self._steady(context)
        return json.dumps(self._steady_leaves(parts), sort_keys=True)

    def _steady_leaves(self, value: Any) -> Any:
        if isinstance(value, str):
            return self._steady(value)
        if isinstance(value, list):
            return [self._steady_leaves(part) for part in value]
        if isinstance(value, dict):
            return {name: self._steady_leaves(part) for name, part in value.items()}
        return value

    def _exact_reason(self, question: Question, text: str) -> str:
        if question.exact_only:
            if isinstance(question.exact_only, str):
                return question.exact_only
            return "the request is marked exact-only"
        if not text.strip():
            return "there is no text to compare"
        if ("\n" in text or "~~~" in text) and _LAID_OUT.search(text.strip()):
            return "the text is laid out by white space, as code is"
        if "```" in text and text.count("```") % 2:
            return "the text is laid out by white space, as code is"
        if len(text) > self.max_semantic_chars:
            return f"the text is longer than max_semantic_chars={self.max_semantic_chars}"
        return ""


def normalised(text: str) -> str:
    """`text` in Unicode NFC with runs of white space as one blank: one spelling, one entry."""
    return " ".join(unicodedata.normalize("NFC", text).split())
