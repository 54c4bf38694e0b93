"""`policy=Verified(…)` in a cache: what is not sure goes to the model, and every fresh answer
teaches."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from tests.conftest import Way
from tests.embedders import HashingEmbedder
from tests.servers import Served
from tests.words import word
from valkey_semcache import (
    ConfigurationError,
    LocalTier,
    NotStorableError,
    Question,
    SemanticCache,
    Verified,
)
from valkey_semcache.flow.verifying import log_of
from valkey_semcache.precision.learning import Evidence, Label
from valkey_semcache.server import acl
from valkey_semcache.stored.labels import packed

ASKED = "how do i reset the password of my account"
KEY = b"a key of sixteen bytes or more"
Make = Callable[..., SemanticCache]


def like(number: int) -> str:
    """A question near `ASKED`, and near all others like it."""
    return f"{ASKED} {word(number)}"


def made(served: Served, **options: Any) -> SemanticCache:
    defaults = {
        "policy": Verified(0.3, same_answer="exact", seed=1),
        "on_error": "raise",
        "guards": (),
    }
    if served.user is not None:
        served.admin.execute_command("ACL", "SETUSER", served.user, *acl.VERIFIED)
    return SemanticCache(HashingEmbedder(), **(served.options | defaults | options))


@pytest.fixture
async def make(either_index: Served) -> AsyncIterator[Make]:
    """Makes caches on each index in turn, and closes them."""
    caches: list[SemanticCache] = []

    def new(**options: Any) -> SemanticCache:
        caches.append(made(either_index, **options))
        return caches[-1]

    yield new
    for cache in caches:
        await cache.aclose()


def log(cache: SemanticCache, question: Question | str = ASKED) -> str:
    return log_of(cache._address(question))


def teach(served: Served, cache: SemanticCache, question: Question | str = ASKED) -> None:
    """60 labels of the same answer, as other processes would have left them, for the family."""
    key = log(cache, question)
    for number in range(60):
        evidence = Evidence(0.7 + 0.005 * number, 0.2, 0, 0, 2)
        label = Label(evidence, number.to_bytes(8, "big"), b"asked678", same=True)
        served.admin.xadd(key, {"l": packed(key, label, None)})


def compared(cache: SemanticCache) -> dict[str, int]:
    return dict(cache.stats().compared)


async def test_what_is_not_sure_is_a_miss_and_its_answer_is_compared(
    served: Served, way: Way
) -> None:
    async with made(served) as cache:
        await way(cache.store, ASKED, "Press.")
        miss = await way(cache.lookup, like(0))
        assert miss.reason == "unverified"
        assert miss.nearest.question == ASKED
        assert "nothing is learned yet" in miss.detail
        await way(cache.store, like(0), "Press.")
        assert compared(cache) == {"same": 1}
        assert (await way(cache.lookup, ASKED)).tier == "exact", "the same words need no proof"
        (family,) = cache_policy(cache).report().families
        assert (family.labels, family.wrong, family.requests) == (1, 0, 1)
        # What others have compared counts as well: another process learns it from Valkey.
        teach(served, cache)
    policy = Verified(0.3, same_answer="exact", explore=0.001, seed=1)
    async with made(served, policy=policy) as other:
        hit = await way(other.lookup, like(2))
        assert (hit.tier, hit.answer) == ("semantic", "Press.")
        (family,) = policy.report().families
        assert family.labels == 61


def cache_policy(cache: SemanticCache) -> Verified:
    policy = cache._flows._policy.verified
    assert policy is not None
    return policy


async def test_it_learns_while_it_runs_and_says_what(make: Make, way: Way) -> None:
    policy = Verified(0.3, same_answer="exact", explore=0.05, seed=1)
    cache = make(policy=policy)
    await way(cache.store, ASKED, "Press.")
    assert "nothing yet" not in str(policy.report())
    outcomes = []
    for number in range(70):
        outcome = await way(cache.lookup, like(number))
        outcomes.append(bool(outcome))
        if not outcome:
            assert outcome.reason == "unverified"
            await way(cache.store, like(number), "Press.")
        elif number < 69:
            assert outcome.answer == "Press."
    assert not any(outcomes[:29])
    assert sum(outcomes[45:]) > 15
    report = policy.report()
    (family,) = report.families
    assert family.labels == 70 - sum(outcomes)
    assert family.wrong == 0
    assert family.served > 0.5
    assert family.bound <= family.allowed <= 0.6
    assert sum(one.right for one in family.similarities) == family.labels
    assert all(0 < one.limit < 1 for one in family.similarities)
    assert set(family.weights) >= {"similarity", "margin", "right", "wrong"}
    assert f"{family.labels}, 0 of another answer" in str(report)
    assert "30.00% of requests, at 95% confidence" in report._repr_html_()
    figure = policy.plot()
    left, right = figure.axes
    assert sum(bar.get_height() for bar in left.patches) == family.labels
    assert len(right.lines[0].get_xdata()) == len(family.steps) > 0


async def test_answers_that_differ_are_never_served(make: Make, way: Way) -> None:
    cache = make()
    await way(cache.store, ASKED, "Press.")
    for number in range(45):
        assert not await way(cache.lookup, like(number))
        await way(cache.store, like(number), f"An answer of its own: {word(number)}.")
    assert compared(cache) == {"other": 45}


async def test_a_threshold_that_is_given_is_never_gone_below(
    either_index: Served, make: Make, way: Way
) -> None:
    cache = make(similarity_threshold=0.97)
    await way(cache.store, ASKED, "Press.")
    teach(either_index, cache)
    assert (await way(cache.lookup, like(0))).reason == "below_threshold"
    lower = make(policy=Verified(0.3, explore=0.001, seed=1))
    assert await way(lower.lookup, like(0))
    assert (await way(lower.lookup, like(0), similarity_threshold=0.97)).reason == (
        "below_threshold"
    )
    assert (await way(lower.lookup, "which wine goes with fish")).reason == "below_threshold"


async def test_answers_in_other_words_are_the_same_where_their_embeddings_are_near(
    make: Make, way: Way
) -> None:
    cache = make(policy=Verified(0.3, same_answer=0.8))
    await way(cache.store, ASKED, "press the red button on the left side of the box")
    for number, answer in enumerate(
        ("press the red button on the left of the box", "write a letter to our office", "")
    ):
        await way(cache.lookup, like(number))
        assert await way(cache.store, like(number), answer)
    # The nearest was the first each time: words make the similarity.
    assert compared(cache)["same"] == 1
    assert compared(cache)["other"] == 2


class Recorder:
    """Compares as it is told."""

    def __init__(self, says: Any) -> None:
        self.says = says
        self.cases: list[tuple[str, ...]] = []

    def judge(self, *case: str) -> Any:
        self.cases.append(case)
        if isinstance(self.says, Exception):
            raise self.says
        return self.says

    async def ajudge(self, *case: str) -> Any:
        await asyncio.sleep(0)
        return self.judge(*case)


@pytest.mark.parametrize(
    ("says", "told"),
    [(True, {"same": 1}), (False, {"other": 1}), (None, {"unknown": 1}), ("yes", {"unknown": 1})],
)
async def test_a_judge_compares(make: Make, way: Way, says: Any, told: dict[str, int]) -> None:
    judge = Recorder(says)
    cache = make(policy=Verified(0.3, same_answer=judge), on_error="miss")
    await way(cache.store, ASKED, "Press.")
    await way(cache.lookup, like(0))
    assert await way(cache.store, like(0), "Push.")
    assert judge.cases == [(like(0), "Press.", "Push.")]
    assert compared(cache) == told
    assert sum(cache.stats().errors.values()) == (says == "yes")


async def test_what_fails_in_comparing_is_counted_and_the_answer_is_stored(
    make: Make, way: Way
) -> None:
    cache = make(policy=Verified(0.3, same_answer=Recorder(ValueError("x"))), on_error="miss")
    await way(cache.store, ASKED, "Press.")
    await way(cache.lookup, like(0))
    assert await way(cache.store, like(0), "Push.")
    assert cache.stats().errors == {"JudgeError": 1}
    assert (await way(cache.lookup, like(0))).answer == "Push."


async def test_embeddings_that_fail_cost_a_label_only(either_index: Served, way: Way) -> None:
    embedder = HashingEmbedder()
    options = either_index.options | {"guards": (), "policy": Verified(0.3)}
    async with SemanticCache(embedder, **options) as cache:
        await way(cache.store, ASKED, "Press.")
        await way(cache.lookup, like(0))
        embedder.answer = lambda text: [0.0]
        assert await way(cache.store, like(0), "Push.")
        assert cache.stats().errors
        assert compared(cache) == {}
        assert (await way(cache.lookup, like(0))).answer == "Push."


async def test_a_candidate_that_is_gone_or_new_teaches_nothing(make: Make, way: Way) -> None:
    cache = make()
    await way(cache.store, ASKED, "Press.")
    await way(cache.lookup, like(0))
    await way(cache.store, ASKED, "Call us.")
    await way(cache.store, like(0), "Press.")
    await way(cache.delete, like(0))
    await way(cache.lookup, like(1))
    await way(cache.delete, ASKED)
    await way(cache.store, like(1), "Press.")
    assert compared(cache) == {"unknown": 2}


class Loud:
    """Another kind of answer."""

    name = "loud/1"

    def encode(self, answer: Any) -> bytes:
        if not isinstance(answer, str):
            raise NotStorableError("no text")
        return answer.upper().encode()

    def decode(self, content: bytes) -> str:
        return content.decode()


async def test_an_answer_for_its_own_words_is_another_and_one_of_another_codec_is_not_compared(
    make: Make, way: Way
) -> None:
    cache = make()
    await way(cache.store, ASKED, "Press.")
    await way(cache.lookup, like(0))
    await way(cache.store, like(0), "Press.", exact_only=True)
    assert compared(cache) == {"other": 1}
    await way(cache.lookup, like(1), codec=Loud())
    await way(cache.store, like(1), "Press.", codec=Loud())
    assert compared(cache) == {"other": 1}


async def test_a_rejected_hit_is_a_wrong_label(either_index: Served, make: Make, way: Way) -> None:
    policy = Verified(0.3, explore=0.001, seed=1)
    cache = make(policy=policy)
    await way(cache.store, ASKED, "Press.")
    teach(either_index, cache)
    hit = await way(cache.lookup, like(0))
    assert await way(cache.reject, hit)
    assert compared(cache) == {"rejected": 1}
    (family,) = policy.report().families
    assert (family.labels, family.wrong) == (61, 1)


async def test_labels_that_nobody_with_the_key_signed_are_none(
    either_index: Served, make: Make, way: Way
) -> None:
    options: dict[str, Any] = {"signing_key": KEY, "digest_key": KEY}
    policy = Verified(0.3, same_answer="exact", seed=1)
    cache = make(policy=policy, **options)
    await way(cache.store, ASKED, "Press.")
    teach(either_index, cache)
    either_index.admin.xadd(log(cache), {"other": b"field"})
    assert (await way(cache.lookup, like(0))).reason == "unverified"
    assert compared(cache) == {"unreadable": 61}
    await way(cache.store, like(0), "Press.")
    reader = Verified(0.3, same_answer="exact", seed=1)
    other = make(policy=reader, **options)
    assert not await way(other.lookup, like(1))
    assert reader.report().families[0].labels == 1, "the signed one"
    # Copies of a signed label count once.
    rows = either_index.admin.xrange(log(cache))
    for _ in range(50):
        either_index.admin.xadd(log(cache), rows[-1][1])
    late = Verified(0.3, same_answer="exact", seed=1)
    assert not await way(make(policy=late, **options).lookup, like(2))
    assert late.report().families[0].labels == 1


async def test_a_stranger_s_key_in_the_way_gives_way(
    either_index: Served, make: Make, way: Way
) -> None:
    cache = make()
    either_index.admin.set(log(cache), "a stranger's")
    await way(cache.store, ASKED, "Press.")
    assert (await way(cache.lookup, like(0))).reason == "unverified"
    await way(cache.store, like(0), "Press.")
    assert either_index.admin.xlen(log(cache)) == 1


async def test_labels_end_and_are_cleared_with_the_cache(
    either_index: Served, make: Make, way: Way
) -> None:
    cache = make(policy=Verified(0.3, same_answer="exact", ttl=100))
    await way(cache.store, ASKED, "Press.")
    await way(cache.lookup, like(0))
    await way(cache.store, like(0), "Press.")
    assert 90_000 < either_index.admin.pttl(log(cache)) <= 100_000
    await way(cache.clear)
    assert not either_index.admin.exists(log(cache))
    assert cache_policy(cache).report().families == ()


async def test_a_wording_that_was_promoted_elsewhere_is_verified_here(
    either_index: Served, make: Make, way: Way
) -> None:
    plain = make(policy=None, promote=True, similarity_threshold=0.7)
    await way(plain.store, ASKED, "Press.")
    assert (await way(plain.lookup, like(0))).tier == "semantic"
    assert (await way(plain.lookup, like(0))).tier == "exact"
    assert (await way(make().lookup, like(0))).reason == "unverified"
    with pytest.raises(ConfigurationError, match="policy= and promote=True"):
        make(promote=True)


async def test_explaining_counts_and_explores_nothing(
    either_index: Served, make: Make, way: Way
) -> None:
    policy = Verified(0.3, same_answer="exact", explore=1)
    cache = make(policy=policy)
    await way(cache.store, ASKED, "Press.")
    teach(either_index, cache)
    assert (await way(cache.lookup, like(0))).detail.endswith("(explore)")
    for number in range(3):
        assert (await way(cache.explain, like(number))).outcome, "what it would do but for that"
    family = policy._families[log(cache)]
    assert (family.requests, family.served) == (1, 0)
    elsewhere = Question(like(0), context="elsewhere")
    await way(cache.store, Question(ASKED, context="elsewhere"), "Press.")
    assert (await way(cache.explain, elsewhere)).verdict == "miss: unverified"


async def test_all_that_is_sure_is_let_through_where_all_is_explored(
    either_index: Served, make: Make, way: Way
) -> None:
    policy = Verified(0.3, same_answer="exact", explore=1)
    cache = make(policy=policy)
    await way(cache.store, ASKED, "Press.")
    teach(either_index, cache)
    miss = await way(cache.lookup, like(0))
    assert (miss.reason, miss.detail) == (
        "unverified",
        "let through to compare the answers (explore)",
    )


async def test_many_at_once_learn_as_one_by_one(either_index: Served, make: Make, way: Way) -> None:
    policy = Verified(0.3, same_answer=0.8, explore=0.001, seed=1)
    cache = make(policy=policy)
    await way(cache.store, ASKED, "press the button")
    asked = [like(number) for number in range(8)]
    assert not any(await way(cache.lookup_many, asked))
    await way(cache.store_many, [(text, "press the button") for text in asked[:4]])
    await way(cache.store_many, [(text, "write to us") for text in asked[4:]])
    assert compared(cache) == {"same": 4, "other": 4}
    here = [Question(like(number), context="here") for number in range(9)]
    await way(cache.store, Question(ASKED, context="here"), "press the button")
    teach(either_index, cache, here[0])
    assert await way(cache.lookup, here[0]), "reads what others have taught"
    assert all(await way(cache.lookup_many, here))


async def test_a_look_up_sends_no_further_command_most_of_the_time(
    searching: Served, way: Way
) -> None:
    async with made(searching, policy=Verified(0.3, explore=0.001, seed=1)) as cache:
        await way(cache.store, ASKED, "Press.")
        teach(searching, cache)
        assert searching.standin is not None
        with searching.standin.counting() as seen:
            assert await way(cache.lookup, like(0))
        assert [command.name for command in seen] == ["HMGET", "FT.SEARCH", "XRANGE"]
        with searching.standin.counting() as seen:
            assert await way(cache.lookup, like(1))
            assert await way(cache.lookup, like(2))
        assert [command.name for command in seen] == ["HMGET", "FT.SEARCH"] * 2


async def test_a_copy_in_this_process_is_served_and_counts(
    either_index: Served, make: Make, way: Way
) -> None:
    policy = Verified(0.3, explore=0.001, seed=1)
    cache = make(policy=policy, local=LocalTier())
    await way(cache.store, ASKED, "Press.")
    teach(either_index, cache)
    assert (await way(cache.lookup, like(0))).tier == "semantic"
    assert (await way(cache.lookup, like(0))).tier == "local"
    family = policy._families[log(cache)]
    assert (family.requests, family.served) == (2, 2)


async def test_each_context_learns_by_itself(either_index: Served, make: Make, way: Way) -> None:
    cache = make(policy=Verified(0.3, explore=0.001, seed=1))
    teach(either_index, cache)
    for context in ("", "another system prompt"):
        await way(cache.store, Question(ASKED, context=context), "Press.")
    assert await way(cache.lookup, like(0))
    miss = await way(cache.lookup, Question(like(0), context="another system prompt"))
    assert miss.reason == "unverified"


@pytest.mark.parametrize(
    "arguments",
    [
        {"max_error": 0},
        {"max_error": 1},
        {"max_error": "1%"},
        {"confidence": 1.0},
        {"explore": 0},
        {"explore": 2},
        {"window": 99},
        {"window": 100_001},
        {"ttl": -1},
        {"timeout": 0},
        {"same_answer": "fuzzy"},
        {"same_answer": 1.5},
        {"same_answer": True},
        {"same_answer": Recorder},
    ],
)
def test_what_is_not_allowed_is_refused_with_its_name(arguments: dict[str, Any]) -> None:
    (name,) = arguments
    with pytest.raises(ConfigurationError, match=name):
        Verified(**arguments)


def test_a_policy_is_one_cache_s(plain: Served) -> None:
    policy = Verified()
    made(plain, policy=policy)
    with pytest.raises(ConfigurationError, match="another cache's already"):
        made(plain, policy=policy)
    with pytest.raises(ConfigurationError, match=r"policy=0\.01 is not allowed"):
        made(plain, policy=0.01)
    assert repr(policy) == "Verified(max_error=0.01, same_answer=0.85)"
