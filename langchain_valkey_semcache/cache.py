"""`ValkeySemanticCache`, a LangChain `BaseCache` over the core.

Rule of this file: translate a call, pass it on, translate what comes back.
"""

from __future__ import annotations

import copy
from contextlib import AbstractContextManager
from typing import Any, Literal, Self, Unpack

from langchain_core.caches import RETURN_VAL_TYPE

from langchain_valkey_semcache.answers import (
    calls_tools,
    given_back,
    reason_not_to_store,
    shaped,
    usage_of,
)
from langchain_valkey_semcache.asked import Asked
from langchain_valkey_semcache.codec import GenerationCodec
from langchain_valkey_semcache.embeddings import embedding_model
from langchain_valkey_semcache.explaining import Explaining
from langchain_valkey_semcache.prompt import Context
from langchain_valkey_semcache.removing import Removing
from langchain_valkey_semcache.telling import apassed_on, is_heard, passed_on
from langchain_valkey_semcache.warming import Warming
from valkey_semcache import Hit, Miss, Question, SemanticCache, Stats
from valkey_semcache.errors import UnknownTenantError
from valkey_semcache.option_names import told_by_name
from valkey_semcache.options import TTL, Options, checked_choice, checked_flag
from valkey_semcache.rules.thresholds import UNSAID, Threshold
from valkey_semcache.text.naming import Naming, QuestionFrom


class ValkeySemanticCache(Warming, Explaining, Removing):
    """A semantic cache for LangChain: `set_llm_cache(ValkeySemanticCache(embeddings, url))`.

    A request is split: the last human message's text is compared by meaning; system prompt,
    earlier turns, tools, and the model with its parameters (`llm_string`) must be the same.
    An outage of Valkey or of the embedding model makes misses, never an exception.

    A message that holds more than the question is compared by its very words only, unless the
    question in it is labelled (`Question:` or `Query:` at the start of a line), or said by
    `question()`, or found by `question_from=`.

    What LangChain does not tell its caches, this one cannot see:

    - `llm_string` does not change when a chat model is changed after its first call. Make a new
      one, or a copy by `model_copy(update=…)` before the first call.
    - Completion models leave arguments that are bound or passed along (`llm.bind(n=2)`) out of
      it, all but `stop`. Give them to the model itself.
    - Two Pydantic schemas of one qualified name look alike in it where a model is bound to the
      class itself.
    - Chat models of your own say in it what their `_identifying_params` hold; two that differ
      in more than that share their entries.

    Args:
        embeddings: A LangChain `Embeddings`; its document method is used.
        url: The server; see `valkey_semcache.SemanticCache` for this and all that follows.
        similarity_threshold: Cosine similarity from which another wording is served, 0 to 1; or
            rules, as there.
        ttl: Seconds an entry lives, or a `timedelta`; None for ever.
        name: Begins every key of this cache.
        namespace: The tenant.
        client: Your own `valkey.Valkey`.
        async_client: Your own `valkey.asyncio.Valkey`.
        question_from: From the text of the last message, or of a completion model's prompt, to
            the question in it, as it stands there; None where it is to be read as without the
            function. What is not found there makes the request exact-only.
        context: `"conversation"`: all that stands beside the question must be the same.
            `"system"`: of the earlier messages only the system's. **Danger**: for bots that
            answer each question by itself. In a conversation, "How many people live there?"
            is then answered alike after a talk of Paris and after one of Rome.
        cache_tool_calls: True stores answers that call tools too, for the very words only.
        usage_on_hit: `"zero"`: a hit's message reports no tokens as spent; `"keep"`: those of
            the first call. They stand in `response_metadata["semantic_cache"]` either way.
        options: All further options of `valkey_semcache.SemanticCache`, by the same names.

    Raises:
        ConfigurationError: An argument is out of range or of the wrong type, or no server is
            given. It is a `ValueError`.
        MissingPackageError: An option needs a package that is not installed.
        TypeError: There is no such option; it names the nearest one.
    """

    @told_by_name
    def __init__(
        self,
        embeddings: Any,
        url: str | None = None,
        *,
        similarity_threshold: Threshold = UNSAID,
        ttl: TTL = 3600,
        name: str = "semcache",
        namespace: str = "",
        client: Any = None,
        async_client: Any = None,
        question_from: QuestionFrom | None = None,
        context: Context = "conversation",
        cache_tool_calls: bool = False,
        usage_on_hit: Literal["zero", "keep"] = "zero",
        **options: Unpack[Options],
    ) -> None:
        checked_choice(context, "context", ("conversation", "system"))
        checked_choice(usage_on_hit, "usage_on_hit", ("zero", "keep"))
        self._cache_tool_calls = checked_flag(cache_tool_calls, "cache_tool_calls")
        self._keeps_usage = usage_on_hit == "keep"
        self.core = SemanticCache(
            embedding_model(embeddings, options.get("embedding_id")),
            url,
            similarity_threshold=similarity_threshold,
            ttl=ttl,
            name=name,
            namespace=namespace,
            client=client,
            async_client=async_client,
            codec=GenerationCodec(),
            **options,
        )

        self._naming = Naming(question_from, self.core.failed)
        self._asked = Asked(self._naming, context)

    def __repr__(self) -> str:
        return repr(self.core).replace(type(self.core).__name__, type(self).__name__, 1)

    def with_namespace(self, namespace: str) -> Self:
        """The same cache for one tenant: same server, index and counters. It can be a model's
        own `cache=`."""
        view = copy.copy(self)
        view.core = self.core.with_namespace(namespace)
        return view

    def __deepcopy__(self, memo: object) -> Self:
        """A cache is shared, not copied: models that hold one are copied."""
        return self

    def namespace(self, namespace: str) -> AbstractContextManager[None]:
        """Name the tenant for a block: `with cache.namespace("acme"): chain.invoke(…)`.

        It holds in all that is called inside, also in the threads of `batch` and the tasks of
        `abatch`; see `SemanticCache.namespace` for other threads, and for who else may name it.
        """
        return self.core.namespace(namespace)

    def question(self, question: str) -> AbstractContextManager[None]:
        """Say what the question is, for prompts built around one.

        `with cache.question("Who won?"): chain.invoke({"question": "Who won?"})` cuts it out of
        the last message, in all that is called inside (see `namespace` for threads). Where the
        last message does not hold it, the request is exact-only.

        Args:
            question: The question, as it stands in the prompt.

        Raises:
            ConfigurationError: It is no string, or empty.
        """
        return self._naming.block(question)

    def lookup(self, prompt: str, llm_string: str) -> list[Any] | None:
        """The stored generations for this prompt or one that means the same, or None."""
        if not is_heard():  # as `passed_on` would see too, but it is not for nothing
            return self._looked_up(prompt, llm_string)
        with passed_on(self.core):
            return self._looked_up(prompt, llm_string)

    def _looked_up(self, prompt: str, llm_string: str) -> list[Any] | None:
        question = self._question(prompt, llm_string)
        if question is None:
            return None
        return self._given(self.core.lookup(question), prompt, llm_string, question)

    async def alookup(self, prompt: str, llm_string: str) -> list[Any] | None:
        """The same as `lookup`, without blocking the event loop."""
        if not is_heard():
            return await self._alooked_up(prompt, llm_string)
        async with apassed_on(self.core):
            return await self._alooked_up(prompt, llm_string)

    async def _alooked_up(self, prompt: str, llm_string: str) -> list[Any] | None:
        question = self._question(prompt, llm_string)
        if question is None:
            return None
        return self._given(await self.core.alookup(question), prompt, llm_string, question)

    def update(self, prompt: str, llm_string: str, return_val: RETURN_VAL_TYPE) -> None:
        """Keep a model's answer, unless it is empty, cut off, or a call for a tool."""
        self.kept(prompt, llm_string, return_val)

    async def aupdate(self, prompt: str, llm_string: str, return_val: RETURN_VAL_TYPE) -> None:
        """The same as `update`, without blocking the event loop."""
        await self.akept(prompt, llm_string, return_val)

    def stats(self) -> Stats:
        """What this cache has done in this process."""
        return self.core.stats()

    def close(self) -> None:
        """Close the sync connections that were opened here."""
        self.core.close()

    async def aclose(self) -> None:
        """Close this event loop's connections, and the sync ones."""
        await self.core.aclose()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    # What calls that coalesce need beside the above

    def kept(
        self, prompt: str, llm_string: str, return_val: RETURN_VAL_TYPE
    ) -> tuple[Question, Any] | None:
        """`update`, and what it kept, or would have kept if Valkey could be reached."""
        if not is_heard():
            return self._kept(prompt, llm_string, return_val)
        with passed_on(self.core):
            return self._kept(prompt, llm_string, return_val)

    def _kept(
        self, prompt: str, llm_string: str, return_val: RETURN_VAL_TYPE
    ) -> tuple[Question, Any] | None:
        stores = self._to_store(prompt, llm_string, return_val)
        if stores is None:
            return None
        question, answer, how = stores
        self.core.store(question, answer, **how)
        return question, answer

    async def akept(
        self, prompt: str, llm_string: str, return_val: RETURN_VAL_TYPE
    ) -> tuple[Question, Any] | None:
        """The same as `kept`, without blocking the event loop."""
        if not is_heard():
            return await self._akept(prompt, llm_string, return_val)
        async with apassed_on(self.core):
            return await self._akept(prompt, llm_string, return_val)

    async def _akept(
        self, prompt: str, llm_string: str, return_val: RETURN_VAL_TYPE
    ) -> tuple[Question, Any] | None:
        stores = self._to_store(prompt, llm_string, return_val)
        if stores is None:
            return None
        question, answer, how = stores
        await self.core.astore(question, answer, **how)
        return question, answer

    def shared(self, question: Question, content: bytes) -> list[Any]:
        """Generations that the same call gave to another one, marked as a hit's."""
        return given_back(self.core.shared(question, content), keeps_usage=self._keeps_usage)

    def _question(self, prompt: str, llm_string: str) -> Question | None:
        """What is asked and by whom; None, and counted, for what is not to be looked up."""
        try:
            return self._asked.read(prompt, llm_string, self.core.tenant())
        except UnknownTenantError as error:
            self.core.missed(str(error))
            self.core.of_nobody(error)
        except Exception as error:  # noqa: BLE001 - whatever a prompt holds, the call goes on
            self.core.missed(str(error))
        return None

    def _given(
        self, outcome: Hit | Miss, prompt: str, llm_string: str, question: Question
    ) -> list[Any] | None:
        if isinstance(outcome, Hit):
            return given_back(outcome, keeps_usage=self._keeps_usage)
        self._asked.missed(prompt, llm_string, question)
        return None

    def _to_store(
        self, prompt: str, llm_string: str, generations: RETURN_VAL_TYPE
    ) -> tuple[Question, Any, dict[str, Any]] | None:
        """The question, the answer and how to store it; None, and counted, for what is not."""
        try:
            question = self._asked.to_store(self.core, prompt, llm_string)
            reason = reason_not_to_store(generations, self._cache_tool_calls)
            answer = None if reason else shaped(generations, llm_string)
        except UnknownTenantError as error:
            self.core.skip("unknown tenant")
            self.core.of_nobody(error)
            return None
        except Exception:  # noqa: BLE001 - whatever they hold, the call goes on
            reason, answer = "unreadable prompt or answer", None
        if answer is None:
            self.core.skip(reason or "another output_version than the model's")
            return None
        how = {"usage": usage_of(answer), "exact_only": calls_tools(answer)}
        return question, answer, how
