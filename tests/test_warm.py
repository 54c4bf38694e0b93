"""Warming: questions with their answers from a file, so that a model need not be asked."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Way
from tests.embedders import HashingEmbedder
from tests.openai_server import OpenAIServer
from tests.servers import Served
from tests.words import word
from valkey_semcache import ConfigurationError, SemanticCache, ServerError
from valkey_semcache.methods.filling import Filled
from valkey_semcache.methods.rows import BadRow, Row, read_rows

ROOT = str(Path(__file__).parents[1])


def cache_on(served: Served, **options: Any) -> SemanticCache:
    return SemanticCache(HashingEmbedder(), **(served.options | {"on_error": "raise"} | options))


# Files


def test_jsonl_and_csv_are_read_alike(tmp_path: Path) -> None:
    rows = [Row("a?", "A, with comma"), Row("b?", 'B "quoted"\nline', "acme", "You are kind.")]
    lines = tmp_path / "rows.jsonl"
    lines.write_text(
        json.dumps({"question": "a?", "answer": "A, with comma"})
        + "\n\n"
        + json.dumps({"question": "b?", "answer": rows[1].answer, "namespace": "acme"})[:-1]
        + ', "system": "You are kind.", "more": 5}\n'
    )
    table = tmp_path / "rows.CSV"
    table.write_bytes(
        "\ufeffanswer,question,namespace,system\r\n"
        '"A, with comma",a?,,\r\n'
        '"B ""quoted""\nline",b?,acme,You are kind.\r\n'.encode()
    )
    assert list(read_rows(lines)) == rows
    assert list(read_rows(table)) == rows


def test_lines_that_cannot_be_read_are_told_and_passed_over(tmp_path: Path) -> None:
    lines = tmp_path / "rows.jsonl"
    lines.write_bytes(
        b'{"question": "a", "answer": "x"}\n{"question": \n[1, 2, 3]\n{"question": "b"}\n'
        b'{"question": 5, "answer": "x"}\n{"question": " ", "answer": "x"}\n'
        + b"[" * 5000
        + b'\n{"question": "c", "answer": "y"}\n'
    )
    found = list(read_rows(lines))
    assert [row for row in found if isinstance(row, Row)] == [Row("a", "x"), Row("c", "y")]
    bad = [row for row in found if isinstance(row, BadRow)]
    assert [row.line for row in bad] == [2, 3, 4, 5, 6, 7]
    assert "no JSON" in bad[0].reason
    assert bad[2].reason == "The row has no answer."
    table = tmp_path / "rows.csv"
    table.write_text("prompt,reply\na,b\n")
    with pytest.raises(ConfigurationError, match="columns prompt, reply"):
        list(read_rows(table))


# fill


async def test_fill_goes_on_where_it_was_interrupted(either_index: Served, way: Way) -> None:
    pairs = [(f"tell me about {word(number)}", str(number)) for number in range(700)]
    async with cache_on(either_index, similarity_threshold=1) as cache:

        def interrupted() -> Iterator[Any]:
            yield from pairs[:300]
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            await way(cache.fill, interrupted())
        seen: list[int] = []
        filled = await way(cache.fill, pairs, progress=seen.append)
        assert filled == Filled(stored=700 - 256, there=256)
        assert sum(seen) == 700
        assert await way(cache.fill, pairs) == Filled(there=700)
        assert await way(cache.fill, pairs[:3], again=True) == Filled(stored=3)
        assert (await way(cache.lookup, pairs[699][0])).answer == "699"


async def test_what_is_not_stored_is_counted_and_an_outage_is_raised(
    plain: Served, way: Way
) -> None:
    async with cache_on(plain, on_error="miss") as cache:
        pairs: list[Any] = [("a", "x"), ("b", 5), ("c", "y")]
        assert await way(cache.fill, pairs) == Filled(stored=2, failed=1)
    async with SemanticCache(HashingEmbedder(), "valkey://127.0.0.1:1") as cache:
        with pytest.raises(ServerError):
            await way(cache.fill, [("a", "x")])


class Free:
    """An embedder that costs next to nothing."""

    model = "free"

    def embed(self, texts: Any) -> list[Any]:
        return [[1.0, *(float(b) for b in text.encode()[-15:].ljust(15))] for text in texts]


def test_ten_thousand_in_less_than_20_seconds(either_index: Served) -> None:
    options: dict[str, Any] = either_index.options | {"on_error": "raise"}
    with SemanticCache(Free(), **options) as cache:
        began = time.monotonic()
        pairs = ((f"tell me about {word(number)}", "x" * 200) for number in range(10_000))
        assert cache.fill(pairs) == Filled(stored=10_000)
        assert time.monotonic() - began < 20
        assert len(either_index.entries()) == 10_000


# The command

APP = """
import sys
sys.path.insert(0, {root!r})
from tests.embedders import HashingEmbedder
from tests.langchain.embeddings import HashingEmbeddings
from valkey_semcache import SemanticCache
options = dict(url={url!r}, name={name!r}, index={index!r}, timeout=20.0)
plain = SemanticCache(HashingEmbedder(), **options)
def made():
    return plain
def langchain():
    from langchain_valkey_semcache import ValkeySemanticCache
    return ValkeySemanticCache(HashingEmbeddings(), **options)
def openai():
    from langchain_openai import ChatOpenAI
    return ChatOpenAI(model="gpt-4o-mini", base_url={openai!r}, api_key="k")
"""


@pytest.fixture
def app(plain: Served, tmp_path: Path) -> Iterator[tuple[Path, Served, OpenAIServer]]:
    """A folder with an app's module in it, a server for its cache and one for its model."""
    with OpenAIServer() as openai:
        served = plain
        source = APP.format(
            root=ROOT, url=served.url, name=served.name, index=served.index, openai=openai.url
        )
        (tmp_path / "myapp.py").write_text(source)
        yield tmp_path, served, openai


def semcache(folder: Path, *arguments: str, typed: str = "") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "valkey_semcache.cli", *arguments]
    return subprocess.run(command, cwd=folder, input=typed, capture_output=True, text=True)


def write(folder: Path, rows: list[dict[str, str]], more: str = "") -> None:
    lines = "\n".join(json.dumps(row) for row in rows)
    (folder / "faq.jsonl").write_text(f"{lines}\n{more}")


def test_after_warming_a_real_client_makes_no_call(app: tuple[Path, Served, OpenAIServer]) -> None:
    from langchain_core.globals import set_llm_cache
    from langchain_core.messages import HumanMessage, SystemMessage
    from langchain_openai import ChatOpenAI

    from langchain_valkey_semcache import ValkeySemanticCache
    from tests.langchain.embeddings import HashingEmbeddings

    folder, served, openai = app
    rows = [{"question": f"What about {word(n)}?", "answer": f"answer {n}"} for n in range(20)]
    rows.append({"question": "Who are you?", "answer": "A pirate.", "system": "Be a pirate."})
    write(folder, rows)
    done = semcache(
        folder, "warm", "faq.jsonl", "--cache", "myapp:langchain", "--llm", "myapp:openai"
    )
    assert done.returncode == 0, done.stderr + done.stdout
    assert "21 stored, 0 there already" in done.stdout
    llm = ChatOpenAI(model="gpt-4o-mini", base_url=openai.url, api_key="k")  # type: ignore[arg-type]
    with ValkeySemanticCache(HashingEmbeddings(), **served.options) as cache:
        set_llm_cache(cache)
        try:
            for number in range(20):
                assert llm.invoke(rows[number]["question"]).content == f"answer {number}"
            asked = [SystemMessage("Be a pirate."), HumanMessage("Who are you?")]
            assert llm.invoke(asked).content == "A pirate."
            assert openai.calls == 0
            llm.invoke("Something else entirely")
            assert openai.calls == 1
        finally:
            set_llm_cache(None)


def test_it_goes_on_and_tells_of_lines_not_read(app: tuple[Path, Served, OpenAIServer]) -> None:
    folder, served, _ = app
    rows = [{"question": f"about {word(n)}", "answer": "x"} for n in range(5)]
    write(folder, rows, more='{"question": 5}\nnonsense\n')
    for told in ("5 stored, 0 there already", "0 stored, 5 there already"):
        done = semcache(folder, "warm", "faq.jsonl", "--cache", "myapp:made")
        assert done.returncode == 1
        assert f"{told}, 2 lines not read" in done.stdout
        assert "line 6: The row's question is no text." in done.stdout
        assert "line 7: it is no JSON" in done.stdout
    done = semcache(folder, "warm", "faq.jsonl", "--cache", "myapp:plain", "--again")
    assert "5 stored, 0 there already" in done.stdout
    assert len(served.entries()) == 5


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--cache", "myapp"), "it takes module:object"),
        (("--cache", "nomodule:cache"), "was not found"),
        (("--cache", "myapp:nothing"), "was not found"),
        (("--cache", "myapp:options"), "not a cache"),
        (("--cache", "myapp:langchain"), "needs --llm"),
        (("--cache", "myapp:plain", "--llm", "myapp:openai"), "leave --llm out"),
    ],
)
def test_what_cannot_be_is_said(
    app: tuple[Path, Served, OpenAIServer], arguments: tuple[str, ...], told: str
) -> None:
    write(app[0], [{"question": "a", "answer": "x"}])
    done = semcache(app[0], "warm", "faq.jsonl", *arguments)
    assert done.returncode == 2
    assert told in done.stderr
    assert "Traceback" not in done.stderr


def test_clear_asks_first_and_takes_the_scopes_of_clear(
    app: tuple[Path, Served, OpenAIServer],
) -> None:
    folder, served, _ = app
    rows = [{"question": "a", "answer": "x"}, {"question": "b", "answer": "y", "namespace": "acme"}]
    write(folder, rows)
    semcache(folder, "warm", "faq.jsonl", "--cache", "myapp:plain")
    assert len(served.entries()) == 2
    server = (served.url, "--name", served.name)
    done = semcache(folder, "clear", *server, "--namespace", "acme", typed="n\n")
    assert done.returncode == 1
    assert f"Remove the entries of namespace 'acme' of the cache '{served.name}'?" in done.stdout
    assert len(served.entries()) == 2
    done = semcache(folder, "clear", *server, "--namespace", "acme", typed="y\n")
    assert "1 entries removed." in done.stdout, done.stderr
    assert len(served.entries()) == 1
    done = semcache(folder, "clear", "--cache", "myapp:plain", "--yes")
    assert "1 entries removed." in done.stdout
    assert not list(served.admin.scan_iter(f"{served.name}:*"))
