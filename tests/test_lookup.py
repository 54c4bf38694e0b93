"""What a look-up finds and what it must not find, on every server, sync and async."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from typing import Any

import pytest

from tests.conftest import Way
from tests.embedders import HashingEmbedder
from tests.servers import Served
from valkey_semcache import Question, SemanticCache

ASKED = "how do i reset the password of my account"
REWORDED = "how do i reset the password of my own account"
OTHER = "which wine goes with fish"

Make = Callable[..., SemanticCache]


@pytest.fixture
async def make(served: Served) -> AsyncIterator[Make]:
    """Makes caches on the server, which raise what goes wrong."""
    caches: list[SemanticCache] = []

    def make(embedder: Any = None, **options: Any) -> SemanticCache:
        options = served.options | {"on_error": "raise"} | options
        caches.append(SemanticCache(embedder or HashingEmbedder(), **options))
        return caches[-1]

    yield make
    for cache in caches:
        await cache.aclose()


async def test_the_same_words_hit_exactly_and_cost_no_embedding(make: Make, way: Way) -> None:
    await way(make().store, ASKED, "press the button")
    embedder = HashingEmbedder()
    hit = await way(make(embedder).lookup, ASKED)
    assert (hit.tier, hit.similarity, hit.answer) == ("exact", 1.0, "press the button")
    assert hit.question == ASKED
    assert embedder.asked == []


async def test_other_words_hit_by_meaning(make: Make, way: Way) -> None:
    cache = make()
    await way(cache.store, ASKED, "press the button")
    hit = await way(cache.lookup, REWORDED)
    assert (hit.tier, hit.answer, hit.question) == ("semantic", "press the button", ASKED)
    assert 0.9 <= hit.similarity < 1.0


async def test_another_question_misses_and_names_its_nearest(make: Make, way: Way) -> None:
    cache = make()
    assert (await way(cache.lookup, OTHER)).reason == "no_neighbour"
    await way(cache.store, ASKED, "press the button")
    miss = await way(cache.lookup, OTHER)
    assert not miss
    assert miss.reason == "below_threshold"
    assert miss.nearest.question == ASKED
    assert miss.nearest.similarity < 0.9


async def test_a_store_is_found_at_once_by_everyone(make: Make, way: Way) -> None:
    """Read-your-write, also through another cache object that has looked before."""
    writer, reader = make(), make()
    for number, asked in enumerate([ASKED, OTHER, "what is the weather like on mars"]):
        assert not await way(reader.lookup, asked)
        await way(writer.store, asked, f"answer {number}")
        assert (await way(reader.lookup, asked + " please tell")).answer == f"answer {number}"


async def test_one_embedding_per_miss_and_store(make: Make, way: Way) -> None:
    embedder = HashingEmbedder()
    cache = make(embedder)
    await way(cache.lookup, ASKED)
    await way(cache.store, ASKED, "x")
    assert embedder.asked == [ASKED]
    assert cache.stats().embeddings == 1


@pytest.mark.parametrize(
    "other",
    [
        Question(ASKED, identity="another model"),
        Question(ASKED, context="another system prompt"),
        Question(ASKED, namespace="another tenant"),
        Question(ASKED + " in 2024"),
        Question(ASKED.replace("account", "'account'")),
    ],
    ids=["identity", "context", "namespace", "number", "quotation"],
)
async def test_what_must_be_the_same_keeps_questions_apart(
    make: Make, way: Way, other: Question
) -> None:
    cache = make(similarity_threshold=0)
    await way(cache.store, ASKED, "mine")
    assert not await way(cache.lookup, other)
    await way(cache.store, other, "theirs")
    assert (await way(cache.lookup, ASKED)).answer == "mine"
    assert (await way(cache.lookup, other)).answer == "theirs"


async def test_numbers_keep_questions_apart_in_both_directions(make: Make, way: Way) -> None:
    cache = make(similarity_threshold=0)
    await way(cache.store, "who won in 2023", "Ann")
    assert not await way(cache.lookup, "who won in 2024")
    await way(cache.store, "what are 100 USD", "much")
    assert not await way(cache.lookup, "what are 200 USD")
    assert (await way(cache.lookup, "tell me who won in 2023")).answer == "Ann"


async def test_two_tenants_never_meet(make: Make, way: Way) -> None:
    cache = make(similarity_threshold=0)
    acme, globex = cache.with_namespace("acme"), cache.with_namespace("globex")
    await way(acme.store, ASKED, "acme's")
    assert not await way(globex.lookup, ASKED)
    assert not await way(globex.lookup, REWORDED)
    assert not await way(cache.lookup, ASKED)
    assert (await way(acme.lookup, REWORDED)).answer == "acme's"


@pytest.mark.parametrize("threshold", [0, 0.0])
async def test_threshold_0_is_honoured(make: Make, way: Way, threshold: float) -> None:
    """Whatever lies in the scope and does not point away hits."""
    cache = make(lambda_embedder({"a": [1, 0], "b": [0, 1]}), similarity_threshold=threshold)
    await way(cache.store, "a", "x")
    assert (await way(cache.lookup, "b")).answer == "x"


async def test_threshold_1_is_honoured(make: Make, way: Way) -> None:
    """Only equal vectors hit, and those do in spite of float32."""
    vectors = {"a": [0.3, 0.4, 0.1], "same": [0.6, 0.8, 0.2], "near": [0.3, 0.4, 0.101]}
    cache = make(lambda_embedder(vectors), similarity_threshold=1)
    await way(cache.store, "a", "x")
    assert (await way(cache.lookup, "same")).tier == "semantic"
    assert not await way(cache.lookup, "near")


def lambda_embedder(vectors: dict[str, Any]) -> HashingEmbedder:
    return HashingEmbedder(lambda text: vectors[text])


async def test_a_threshold_can_be_given_for_one_call(make: Make, way: Way) -> None:
    cache = make()
    await way(cache.store, ASKED, "x")
    assert not await way(cache.lookup, REWORDED, similarity_threshold=0.999)
    assert await way(cache.lookup, REWORDED)


async def test_the_nearest_of_several_is_served(make: Make, way: Way) -> None:
    cache = make(similarity_threshold=0.3)
    for number in range(20):
        await way(cache.store, f"{'word ' * number}apple", f"{number}")
    words = {f"{'word ' * number}apple": str(number) for number in range(20)}
    for text, answer in words.items():
        hit = await way(cache.lookup, text.replace("apple", "apple?"))
        assert hit.answer == answer


async def test_a_nearest_entry_that_just_expired_does_not_hide_the_next(
    make: Make, way: Way, served: Served
) -> None:
    cache = make(similarity_threshold=0.5)
    await way(cache.store, ASKED, "next")
    for extra in ("own", "dear", "very"):
        near = REWORDED.replace("own", extra)
        await way(cache.store, near, extra)
        assert (await way(cache.lookup, f"{near} please")).answer == extra
    for key in served.entries():
        if served.admin.hget(key, "p").rfind(b"next") < 0:
            served.admin.pexpire(key, 1)
    while len(served.entries()) > 1:
        pass
    assert (await way(cache.lookup, f"{REWORDED} please")).answer == "next"


async def test_the_ttl_is_on_the_key_when_the_store_returns(
    make: Make, way: Way, served: Served
) -> None:
    cache = make(ttl=100)
    await way(cache.store, "default", "x")
    await way(cache.store, "given", "x", ttl=timedelta(seconds=50))
    await way(cache.store, "short", "x", ttl=0.5)
    await way(cache.store, Question("alone", exact_only=True), "x")
    left = {
        served.admin.hget(key, "p").split(b'"q":"')[1].split(b'"')[0]: served.admin.pttl(key)
        for key in served.entries()
    }
    assert 99_000 < left[b"default"] <= 100_000
    assert 99_000 < left[b"alone"] <= 100_000
    assert 49_000 < left[b"given"] <= 50_000
    assert 0 < left.get(b"short", 1) <= 500


async def test_storing_again_replaces_answer_and_ttl(make: Make, way: Way, served: Served) -> None:
    cache = make(ttl=100)
    await way(cache.store, ASKED, "old")
    await way(cache.store, ASKED, "new", ttl=None)
    (key,) = served.entries()
    assert served.admin.ttl(key) == -1
    assert (await way(cache.lookup, ASKED)).answer == "new"
    assert (await way(cache.lookup, REWORDED)).answer == "new"
    await way(cache.store, ASKED, "newer", ttl=5)
    assert 0 < served.admin.ttl(key) <= 5


@pytest.mark.parametrize(
    ("asked", "answer"),
    [
        ("Wie heißt der höchste Berg Österreichs?", "Großglockner ⛰️"),
        ("北京是中国的首都吗?", "是的"),
        ("nothing", ""),
        ("a" * 900, "long question"),
        ("much", "x" * 2**20),
        ("\ud800 lone surrogate", "\udfff"),
        ("nul \x00 and {braces} | * , : \\ @", "\x00\r\n"),
    ],
    ids=["german", "chinese", "empty", "long", "megabyte", "surrogate", "signs"],
)
async def test_values_survive(make: Make, way: Way, asked: str, answer: str) -> None:
    cache = make()
    await way(cache.store, asked, answer)
    assert (await way(cache.lookup, asked)).answer == answer
    if asked.isprintable():
        assert (await way(cache.lookup, f"{asked} ", similarity_threshold=1)).answer == answer


async def test_white_space_and_unicode_spelling_make_one_entry(
    make: Make, way: Way, served: Served
) -> None:
    cache = make()
    await way(cache.store, "caf\u00e9  prices\n", "1")
    await way(cache.store, " cafe\u0301 prices", "2")
    assert len(served.entries()) == 1
    assert (await way(cache.lookup, "caf\u00e9 prices")).answer == "2"


@pytest.mark.parametrize(
    "question",
    [
        Question("x " * 501),
        Question("short", exact_only=True),
        Question("short", exact_only="because"),
        Question("", context="only context"),
        Question("fix this: if a:\n    b()\nc()"),
        Question("what does ```this do"),
    ],
    ids=["long", "marked", "with reason", "no text", "indented", "open fence"],
)
async def test_exact_only_questions_are_never_compared(
    make: Make, way: Way, question: Question
) -> None:
    embedder = HashingEmbedder()
    cache = make(embedder, similarity_threshold=0)
    await way(cache.store, Question("near", context=question.context), "no")
    embedder.asked.clear()
    miss = await way(cache.lookup, question)
    assert miss.reason == "exact_only"
    await way(cache.store, question, "yes")
    hit = await way(cache.lookup, question)
    assert (hit.tier, hit.answer) == ("exact", "yes")
    assert embedder.asked == []
    # and nothing else meets it
    near = Question("near enough", context=question.context)
    assert (await way(cache.lookup, near)).answer == "no"


async def test_an_exact_only_store_over_a_semantic_entry_takes_it_out_of_the_index(
    make: Make, way: Way, served: Served
) -> None:
    cache = make()
    await way(cache.store, ASKED, "by meaning")
    assert await way(cache.lookup, REWORDED)
    await way(cache.store, Question(ASKED, exact_only=True), "to the letter")
    (key,) = served.entries()
    assert set(served.admin.hkeys(key)) == {b"m", b"n", b"i", b"p"}
    assert (await way(cache.lookup, ASKED)).answer == "to the letter"
    assert not await way(cache.lookup, REWORDED)


@pytest.mark.parametrize(
    "bad",
    [[float("nan")] * 64, [0.0] * 64, [float("inf")] * 64, [], [[1.0]], "text", None, [1.0] * 32],
    ids=["nan", "zeros", "infinite", "empty", "nested", "text", "none", "dimension"],
)
async def test_vectors_that_cannot_be_compared_never_hit(make: Make, way: Way, bad: Any) -> None:
    good = make(similarity_threshold=0)
    await way(good.store, ASKED, "x")
    embedder = HashingEmbedder(lambda _: bad)
    cache = make(embedder, similarity_threshold=0, on_error="miss")
    miss = await way(cache.lookup, REWORDED)
    assert miss.reason == "error"
    assert not await way(cache.store, REWORDED, "y")
    assert not await way(cache.lookup, REWORDED)
    assert sum(cache.stats().errors.values()) == 3
    assert (await way(good.lookup, REWORDED)).answer == "x"


async def test_another_dimension_is_an_error_that_says_what_to_do(make: Make, way: Way) -> None:
    from valkey_semcache import DimensionMismatchError

    await way(make().store, ASKED, "x")
    cache = make(HashingEmbedder(lambda _: [1.0] * 32))
    with pytest.raises(DimensionMismatchError, match=r"hashing.*32 dimensions.*64.*embedding_id="):
        await way(cache.lookup, REWORDED)
    with pytest.raises(DimensionMismatchError):
        await way(cache.store, REWORDED, "y")


async def test_delete_removes_just_these_words(make: Make, way: Way) -> None:
    cache = make()
    await way(cache.store, ASKED, "x")
    await way(cache.store, OTHER, "y")
    assert await way(cache.lookup, REWORDED)
    assert await way(cache.delete, ASKED) is True
    assert await way(cache.delete, ASKED) is False
    assert not await way(cache.lookup, ASKED)
    assert not await way(cache.lookup, REWORDED)
    assert (await way(cache.lookup, OTHER)).answer == "y"
    await way(cache.store, ASKED, "z")
    assert (await way(cache.lookup, REWORDED)).answer == "z"


async def test_volatile_patterns_see_one_text_at_a_time(make: Make, way: Way) -> None:
    """In an adapter's context, which is JSON, a greedy pattern does not eat the next turn."""
    cache = make(volatile=["Today is .*"])

    def asked(day: str, name: str) -> Question:
        return Question(ASKED, json.dumps(["Be kind.\nToday is " + day, {"user": "I am " + name}]))

    await way(cache.store, asked("Monday", "Ann"), "Ann's")
    assert (await way(cache.lookup, asked("Friday", "Ann"))).answer == "Ann's"
    assert not await way(cache.lookup, asked("Friday", "Bob"))


async def test_rejected_neighbours_do_not_hide_the_next(
    make: Make, way: Way, served: Served
) -> None:
    cache = make(similarity_threshold=0.5)
    near = [f"{ASKED} {extra}" for extra in ("my", "own", "dear", "very", "old")]
    for number, text in enumerate([*near, OTHER.replace("wine", "password")]):
        await way(cache.store, text, str(number))
    await way(cache.store, f"{ASKED} which", "next")
    rejected = cache._address(ASKED).text_digest
    for key in served.entries():
        if not served.admin.hget(key, "p").endswith(b"next"):
            served.admin.hset(key, "x", rejected)
    assert (await way(cache.lookup, ASKED)).answer == "next"


async def test_volatile_parts_do_not_count(make: Make, way: Way) -> None:
    cache = make(volatile=[r"Today is \S+\.", r"\[request \w+\]"])
    await way(cache.store, Question(f"{ASKED} [request a1]", "Be kind. Today is Monday."), "x")
    assert await way(cache.lookup, Question(f"{ASKED} [request b2]", "Be kind. Today is Friday."))
    assert not await way(cache.lookup, Question(ASKED, "Be rude. Today is Friday."))


async def test_a_miss_says_when_the_same_text_is_stored_under_another_context(
    make: Make, way: Way
) -> None:
    cache = make()
    await way(cache.store, Question(ASKED, "Today is Monday."), "x")
    miss = await way(cache.lookup, Question(ASKED, "Today is Friday."))
    assert miss.elsewhere
    assert "volatile" in str(miss)
    assert not (await way(cache.lookup, OTHER)).elsewhere
    stranger = cache.with_namespace("globex")
    assert not (await way(stranger.lookup, ASKED)).elsewhere, "a tenant learns nothing of another"


async def test_questions_are_not_kept_when_told_so(make: Make, way: Way, served: Served) -> None:
    cache = make(store_questions=False)
    await way(cache.store, ASKED, "x")
    (key,) = served.entries()
    assert ASKED.encode() not in b"".join(served.admin.hvals(key))
    assert (await way(cache.lookup, ASKED)).question is None
    assert (await way(cache.lookup, REWORDED)).question is None
    assert (await way(cache.lookup, OTHER)).nearest.question is None


async def test_a_digest_key_changes_every_digest(make: Make, way: Way, served: Served) -> None:
    cache = make(digest_key=b"a secret of 16 bytes and more")
    await way(cache.store, ASKED, "x")
    (keyed,) = served.entries()
    assert not await way(make().lookup, ASKED)
    await way(make().store, ASKED, "y")
    (plain,) = set(served.entries()) - {keyed}
    assert not set(keyed.split(":")[1:]) & set(plain.split(":")[1:])
    assert (await way(cache.lookup, REWORDED)).answer == "x"


async def test_usage_is_given_back_and_added_up(make: Make, way: Way) -> None:
    cache = make()
    await way(cache.store, ASKED, "x", usage={"input_tokens": 10, "output_tokens": 3})
    assert (await way(cache.lookup, ASKED)).usage == {"input_tokens": 10, "output_tokens": 3}
    await way(cache.lookup, REWORDED)
    stats = cache.stats()
    assert stats.saved_tokens == {"input_tokens": 20, "output_tokens": 6}
    assert (stats.hits, stats.stored, stats.hit_rate) == ({"exact": 1, "semantic": 1}, 1, 1.0)
