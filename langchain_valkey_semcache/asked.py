"""From a call's two strings to what it asks, and from there to what its store belongs to.

Rule of this file: the store that follows a look-up belongs to the tenant and the question of that
look-up, or to nobody. LangChain hands both the same string object, so the object says which
look-up a store follows, in whatever thread or task, and after whatever block has ended.
"""

from __future__ import annotations

import time

from langchain_valkey_semcache.prompt import Context, read_prompt
from valkey_semcache import Question, SemanticCache
from valkey_semcache.errors import UnknownTenantError
from valkey_semcache.locks import ForkLock
from valkey_semcache.text.naming import Naming

_SECONDS = 600.0  # that a model may take to answer
_CHARACTERS = 16 * 2**20  # of prompts that are remembered at a time
_OVERHEAD = 1000  # characters that one counts for beside its own, as it takes about as many bytes

Key = tuple[int, str]


class Asked:
    """What each call asks, remembered from its look-up to its store.

    Args:
        naming: How the question in the last message is told.
        context: What must be the same beside the question.
    """

    def __init__(self, naming: Naming, context: Context) -> None:
        self._naming = naming
        self._context = context
        self._lock = ForkLock(after_fork=self._begin)
        self._begin()

    def _begin(self) -> None:
        # The oldest first, with when it was asked: `cachetools` would keep the order in Python.
        self._pending: dict[Key, tuple[float, str, tuple[Question, ...]]] = {}
        self._characters = 0

    def read(self, prompt: str, llm_string: str, namespace: str | None = None) -> Question:
        """What a prompt asks, here and now.

        Args:
            prompt: The prompt.
            llm_string: Which model, with which parameters.
            namespace: Whose request it is; None where that is not said.

        Raises:
            UnreadablePromptError: It cannot be told what is asked.
        """
        return read_prompt(prompt, llm_string, self._naming, self._context, namespace)

    def missed(self, prompt: str, llm_string: str, question: Question) -> None:
        """Remember what a look-up asked, for the store that follows.

        Args:
            prompt: The very string that was looked up.
            llm_string: Likewise.
            question: What it asked, with its tenant.
        """
        if len(prompt) + _OVERHEAD > _CHARACTERS:
            return
        now = time.monotonic()
        key = id(prompt), question.identity  # which equals `llm_string`, and is kept anyway
        with self._lock:
            before = self._taken(key)
            asked = before if question in before else (*before, question)
            # The prompt is kept beside it, or another one might come to lie in its place.
            self._pending[key] = now, prompt, asked
            self._characters += _OVERHEAD + len(prompt)
            while self._pending:
                oldest, (since, *_) = next(iter(self._pending.items()))
                if self._characters <= _CHARACTERS and since >= now - _SECONDS:
                    return
                self._taken(oldest)

    def to_store(self, core: SemanticCache, prompt: str, llm_string: str) -> Question:
        """What the store of a prompt's answer belongs to.

        Args:
            core: Knows the tenant who is asking here and now.
            prompt: The very string that was looked up.
            llm_string: Likewise.

        Raises:
            UnknownTenantError: It cannot be told whose answer it is.
            UnreadablePromptError: It cannot be told what is asked.
        """
        with self._lock:
            asked = self._taken((id(prompt), llm_string))
        if len(asked) == 1:
            (question,) = asked
            if core.named_tenant() not in (None, question.namespace):
                raise UnknownTenantError("another tenant stores it than asked for it")
            return question
        here = self.read(prompt, llm_string, core.tenant())
        if asked and here not in asked:
            raise UnknownTenantError("several tenants or questions asked for the same prompt")
        return here

    def _taken(self, key: Key) -> tuple[Question, ...]:
        """What a string asked, which is forgotten then; nothing if that is long ago. The lock is
        held."""
        remembered = self._pending.pop(key, None)
        if remembered is None:
            return ()
        since, prompt, asked = remembered
        self._characters -= _OVERHEAD + len(prompt)
        return asked if since >= time.monotonic() - _SECONDS else ()
