"""`semcache` as scripts use it: JSON, exit codes; and its commands `ask` and `bench`."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest

from langchain_valkey_semcache import ValkeySemanticCache as LangChainCache
from llama_index_valkey_semcache import SemanticCacheLLM
from llama_index_valkey_semcache import ValkeySemanticCache as LlamaIndexCache
from tests.embedders import HashingEmbedder
from tests.langchain.embeddings import HashingEmbeddings
from tests.llama_index.models import CountingLLM, HashingEmbedding
from tests.servers import Served
from valkey_semcache import Question, SemanticCache
from valkey_semcache.cli import main

ASKED = "how do i reset the password of my account"
REWORDED = "how do i reset the password of my own account"
NOWHERE = "valkey://user:hunter2@127.0.0.1:1"


class Done(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def told(self) -> Any:
        return json.loads(self.out)


Semcache = Callable[..., Done]


@pytest.fixture
def semcache(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Semcache:
    """Runs a command in this process, as the installed script does."""

    def run(*arguments: str) -> Done:
        monkeypatch.setattr(sys, "argv", ["semcache", *arguments])
        monkeypatch.setenv("COLUMNS", "80")
        capsys.readouterr()
        with pytest.raises(SystemExit) as caught:
            main()
        code = caught.value.code
        out, err = capsys.readouterr()
        return Done(code if isinstance(code, int) else 0, out, err)

    return run


@pytest.fixture
def myapp(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The app's own module, by whose name its objects are given."""
    module = SimpleNamespace()
    monkeypatch.setitem(sys.modules, "myapp", module)  # type: ignore[arg-type]
    return module


def cache_on(served: Served, **options: Any) -> SemanticCache:
    return SemanticCache(HashingEmbedder(), **(served.options | options))


# ask


def test_ask_shows_a_hit_with_its_answer_and_a_miss_with_its_reason(
    either_index: Served, semcache: Semcache, myapp: SimpleNamespace
) -> None:
    myapp.embedding = HashingEmbedder()
    at = ("--url", either_index.url, "--name", either_index.name, "--embedding", "myapp:embedding")
    with cache_on(either_index) as cache:
        cache.store(Question(ASKED, context="c"), "press the <b>[red]button[/red]</b>")
    done = semcache("ask", REWORDED, *at, "--context", "c", "--threshold", "0.7")
    assert done.code == 0
    assert "semantic hit" in done.out
    assert "press the <b>[red]button[/red]</b>" in done.out
    assert max(map(len, done.out.splitlines())) <= 80
    done = semcache("ask", ASKED, *at, "--json")
    assert done.code == 1
    assert (done.told["verdict"], done.told["answer"]) == ("miss: no_neighbour", None)
    assert [near["apart"] for near in done.told["neighbours"]] == [["context"]]
    assert either_index.admin.exists(f"{either_index.name}:meta")


def test_ask_of_another_embedding_model_says_whose_the_entries_are(
    plain: Served, semcache: Semcache, myapp: SimpleNamespace
) -> None:
    class Other(HashingEmbedder):
        model = "another"

    myapp.embedding = Other()
    at = ("--url", plain.url, "--name", plain.name, "--embedding", "myapp:embedding")
    assert "Nothing is stored under the name" in semcache("ask", ASKED, *at).out
    with cache_on(plain) as cache:
        cache.store(ASKED, "x")
    done = semcache("ask", ASKED, *at, "--json")
    assert "HashingEmbedder/hashing" in " ".join(done.told["remarks"])
    assert "--cache module:object" in " ".join(done.told["remarks"])
    told = " ".join(semcache("ask", ASKED, *at).out.split())
    assert "--cache module:object, and for a cache of LangChain or LlamaIndex --llm module:" in told
    myapp.other = SemanticCache(Other(), **plain.options)
    told = semcache("ask", ASKED, "--cache", "myapp:other", "--json").told["remarks"]
    assert "HashingEmbedder/hashing" in " ".join(told)
    assert "--cache" not in " ".join(told)


def test_ask_through_the_frameworks(
    plain: Served, semcache: Semcache, myapp: SimpleNamespace
) -> None:
    inner = CountingLLM()
    myapp.langchain = LangChainCache(HashingEmbeddings(), **plain.options)
    options = plain.options | {"name": f"{plain.name}-2"}
    myapp.llama = LlamaIndexCache(HashingEmbedding(), **options)
    myapp.llm = SemanticCacheLLM(inner, myapp.llama)
    from langchain_core.language_models import FakeListChatModel

    myapp.model = FakeListChatModel(responses=["Press it."])
    myapp.langchain.warm(myapp.model, [{"question": ASKED, "answer": "A.", "system": "Be kind."}])
    myapp.llama.warm(myapp.llm, [(ASKED, "B.")])
    by_langchain = ("--cache", "myapp:langchain", "--llm", "myapp:model")
    done = semcache("ask", ASKED, *by_langchain, "--context", "Be kind.", "--json")
    assert (done.code, done.told["answer"]) == (0, "A.")
    assert semcache("ask", ASKED, *by_langchain, "--context", "Be rude.").code == 1
    done = semcache("ask", ASKED, "--cache", "myapp:llama", "--llm", "myapp:llm", "--json")
    assert (done.code, done.told["answer"]) == (0, "B.")
    for wrong in (
        ("--cache", "myapp:langchain"),
        (*by_langchain, "--model", "m"),
        (*by_langchain, "--threshold", "0.5"),
        ("--cache", "myapp:llama", "--llm", "myapp:llm", "--namespace", "t"),
        ("--cache", "myapp:model"),
    ):
        assert semcache("ask", ASKED, *wrong).code == 2
    myapp.llama.clear()


def test_ask_shows_other_tenants_to_who_asks_for_them_alone(
    plain: Served, semcache: Semcache, myapp: SimpleNamespace
) -> None:
    myapp.cache = cache_on(plain)
    myapp.cache.store(Question(f"{ASKED} at acme", namespace="acme"), "x")
    asked = ("ask", f"{ASKED} at home", "--cache", "myapp:cache", "--namespace", "home")
    assert "acme" not in semcache(*asked).out
    assert "another tenant" in semcache(*asked, "--all-tenants").out


# bench


def test_bench_measures_and_leaves_nothing(either_index: Served, semcache: Semcache) -> None:
    before = {key for key in either_index.admin.keys("*") if b"semcache-bench" in key}
    sizes = ("--entries", "30", "--calls", "20", "--dimensions", "16", "--timeout", "20")
    done = semcache("bench", either_index.url, "--index", either_index.index, *sizes, "--json")
    assert done.code == 0, done.err
    assert (done.told["index"], done.told["entries"]) == (either_index.index, 30)
    measured = {one["what"]: one for one in done.told["milliseconds"]}
    assert [one["calls"] for one in measured.values()] == [30, 20, 20, 20, 20]
    assert all(0 < one["p50"] <= one["p95"] for one in measured.values())
    keys = {key for key in either_index.admin.keys("*") if b"semcache-bench" in key}
    assert keys == before
    if either_index.index == "search":
        assert b"semcache-bench" not in b"".join(either_index.admin.execute_command("FT._LIST"))


def test_bench_as_a_table_fits(plain: Served, semcache: Semcache) -> None:
    done = semcache("bench", plain.url, "--entries", "5", "--calls", "5", "--timeout", "20")
    assert done.code == 0
    assert "hit, other words" in done.out
    assert max(map(len, done.out.splitlines())) <= 80


# JSON of the others.


def test_what_is_done_is_told_as_json(
    plain: Served, semcache: Semcache, myapp: SimpleNamespace, tmp_path: Path
) -> None:
    myapp.one = cache_on(plain)
    myapp.two = cache_on(plain, name=f"{plain.name}-2")
    faq, out = tmp_path / "faq.jsonl", tmp_path / "out.jsonl"
    faq.write_text('{"question": "a", "answer": "x"}\nnonsense\n')
    done = semcache("warm", str(faq), "--cache", "myapp:one", "--json")
    assert done.code == 1
    assert done.told == {
        "stored": 1,
        "there": 0,
        "failed": 0,
        "bad_lines": [{"line": 2, "reason": done.told["bad_lines"][0]["reason"]}],
    }
    assert "it is no JSON" in done.out
    done = semcache("export", str(out), "--cache", "myapp:one", "--json")
    assert done.told == {"exported": 1, "file": str(out), "vectors": False}
    with out.open("a") as file:
        file.write("nonsense\n")
    done = semcache("import", str(out), "--cache", "myapp:two", "--json")
    assert done.code == 1
    assert done.told == {"stored": 1, "expired": 0, "failed": 1, "bad_lines": [3]}
    done = semcache("clear", plain.url, "--name", f"{plain.name}-2", "--yes", "--json")
    assert done.told == {"removed": 1}
    done = semcache("reindex", plain.url, "--name", plain.name, "--to", "flat", "--json")
    assert done.told == {"cache": plain.name, "index": "flat", "entries": 1}


def test_tune_as_json(semcache: Semcache, myapp: SimpleNamespace, tmp_path: Path) -> None:
    myapp.cache = SemanticCache(HashingEmbedder(), "valkey://unused.invalid", guards=())
    pairs = tmp_path / "pairs.jsonl"
    lines = [{"a": f"{ASKED} {x}", "b": f"{REWORDED} {x}", "same": True} for x in "abcdefghij"]
    pairs.write_text("".join(json.dumps(line) + "\n" for line in lines))
    done = semcache("tune", str(pairs), "--cache", "myapp:cache", "--precision", "0.5", "--json")
    assert done.code == 0, done.err
    assert (done.told["pairs"], done.told["wanted"]) == (10, 0.5)
    row = next(row for row in done.told["rows"] if row["threshold"] == done.told["found"])
    assert row["precision"]["count"] == row["precision"]["of"] == 10


def test_the_demo_as_json(semcache: Semcache, tmp_path: Path) -> None:
    mine = tmp_path / "mine.txt"
    mine.write_text("How do I reset my password?\nHow can I reset my password?\n")
    done = semcache("demo", "--questions", str(mine), "--json")
    assert done.code == 0, done.err
    (table,) = done.told
    assert [row["answered_by"] for row in table["rows"]] == ["model", "semantic hit"]
    assert semcache("demo", "--json", "--svg", str(tmp_path / "x.svg")).code == 2


def test_doctor_of_servers_that_are_none_of_a_cluster(semcache: Semcache, plain: Served) -> None:
    unix = plain.admin.config_get("unixsocket")["unixsocket"]
    for url in ("embedded://", f"unix://{unix}"):
        done = semcache("doctor", url, "--json", "--timeout", "20")
        assert (done.code, done.told["ok"]) == (0, True), done


# Exit codes.


def test_exit_codes(semcache: Semcache, myapp: SimpleNamespace) -> None:
    for command in (
        ("ask", ASKED, "--url", NOWHERE),
        ("bench", NOWHERE),
        ("clear", NOWHERE, "--yes"),
        ("reindex", NOWHERE, "--to", "flat"),
    ):
        done = (
            semcache(*command, "--timeout", "0.2") if command[0] != "clear" else semcache(*command)
        )
        assert done.code == 3, command
        assert "127.0.0.1" in done.err + done.out
        assert "hunter2" not in done.err + done.out
    for wrong in (
        ("ask",),
        ("ask", ASKED, "--neighbours", "99"),
        ("ask", ASKED, "--cache", "no_such_app:cache"),
        ("reindex", NOWHERE, "--to", "tree"),
        ("clear",),
        ("nonsense",),
    ):
        done = semcache(*wrong)
        assert done.code == 2, wrong
        assert "Traceback" not in done.err
