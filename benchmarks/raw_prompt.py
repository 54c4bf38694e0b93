"""Fifty unrelated questions under one system prompt of 2,000 characters: who answers wrongly?

    python -m benchmarks.raw_prompt

Each question is looked up among those before it and then stored, so each hit is a wrong answer.
Beside the cache stands the package `langchain-redis`'s way of embedding (`RedisSemanticCache`,
release 0.2.6): the raw prompt as LangChain hands it over, `dumps(messages)`, in which the question
is a small part, and which all-MiniLM-L6-v2, used by both, does not read to its end. Both are asked
at both thresholds: that package's default is a cosine distance of 0.2, ours a similarity of 0.9.
"""

from __future__ import annotations

import numpy as np
from langchain_core.load import dumps
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage
from langchain_core.outputs import ChatGeneration
from rich.console import Console
from rich.table import Table

from langchain_valkey_semcache import MiniLMEmbeddings, ValkeySemanticCache
from tests.langchain.test_questions import UNRELATED
from valkey_semcache.offline import MiniLM

SYSTEM = ("You are the helpful assistant of a large bank. " * 50)[:2000]
PROMPTS = [dumps([SystemMessage(SYSTEM), HumanMessage(question)]) for question in UNRELATED]
THRESHOLDS = {"0.8": 0.8, "0.9": 0.9}


def ours(threshold: float) -> int:
    """Hits of the cache, asked as LangChain asks it."""
    hits = 0
    answer = [ChatGeneration(message=AIMessage("an answer"))]
    where = {"url": "embedded://", "name": f"raw-prompt-{threshold}"}
    with ValkeySemanticCache(MiniLMEmbeddings(), similarity_threshold=threshold, **where) as cache:
        for prompt in PROMPTS:
            hits += cache.lookup(prompt, "model") is not None
            cache.update(prompt, "model", answer)
    return hits


def raw(threshold: float) -> int:
    """Hits when the raw prompt is embedded and the nearest one is taken."""
    vectors = np.asarray(MiniLM().embed(PROMPTS))
    near = np.tril(vectors @ vectors.T, -1)
    return int((near.max(axis=1) >= threshold).sum())


def main() -> None:
    """Print the table."""
    table = Table(title=f"{len(PROMPTS)} unrelated questions: wrong answers")
    table.add_column("embedded")
    for name in THRESHOLDS:
        table.add_column(f"at similarity {name}", justify="right")
    table.add_row("the question (this package)", *(str(ours(t)) for t in THRESHOLDS.values()))
    table.add_row("the raw prompt (langchain-redis)", *(str(raw(t)) for t in THRESHOLDS.values()))
    Console().print(table)


if __name__ == "__main__":
    main()
