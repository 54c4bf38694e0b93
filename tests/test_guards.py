"""What tells questions apart that a similarity takes for one."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import Way
from tests.embedders import HashingEmbedder
from tests.servers import Served
from valkey_semcache import ConfigurationError, SemanticCache
from valkey_semcache.offline import MiniLM
from valkey_semcache.precision import guards as own_guards
from valkey_semcache.precision.guards import DEFAULT, Guards
from valkey_semcache.precision.words import Words

REFUSED = {
    "polarity": [
        ("Is the shop open?", "Is the shop not open?", "'not' only in the stored one"),
        ("Which birds can't fly?", "Which birds can fly?", "'not' only in the question"),
        ("Which birds cannot fly?", "Which birds can fly?", "'not' only in the question"),
        ("Why won’t it start?", "Why will it start?", "'not' only in the question"),
        ("a cake without eggs", "a cake with eggs", "'without' only in the question"),
        ("jobs that require no degree", "jobs that require a degree", "'no' only"),
        ("Does it never rain?", "Does it rain?", "'never' only in the question"),
        ("How do I uninstall it?", "How do I install it?", "'uninstall' against 'install'"),
        ("Which verbs are irregular?", "Which verbs are regular?", "'irregular'"),
        ("Is it dishonest?", "Is it honest?", "'dishonest' against 'honest'"),
        ("non-smoking rooms", "smoking rooms", "'non' only in the question"),
        ("Is the form invalid?", "Is the form valid?", "'invalid' against 'valid'"),
        ("How do I enable it?", "How do I disable it?", "'enable' against 'disable'"),
        ("enabling the log", "disabling the log", "'enabling' against 'disabling'"),
        ("What are the advantages?", "What are the disadvantages?", "'advantages'"),
        ("the highest tower", "the lowest tower", "'highest' against 'lowest'"),
        ("Is it not possible?", "Is it possible?", "'not'"),
        ("Is it not impossible?", "Is it impossible?", "'not'"),
        ("Don't forget: may I not smoke?", "Don't forget: may I smoke?", "'not'"),
    ],
    "order": [
        ("miles to kilometres", "kilometres to miles", "'miles' and 'kilometres' have changed"),
        ("Turn a CSV file into JSON", "Turn a JSON file into CSV", "have changed places"),
        ("the bus from Ayr to Wick", "the bus from Wick to Ayr", "'ayr' and 'wick'"),
        ("the bus from Ayr to Wick", "the bus to Ayr from Wick", "'ayr' and 'wick'"),
        ("Is oil lighter than water?", "Is water lighter than oil?", "'oil' and 'water'"),
        ("Does stress cause pain?", "Does pain cause stress?", "'stress' and 'pain'"),
        ("Do wolves hunt bears?", "Do bears hunt wolves?", "'wolves' and 'bears'"),
        ("replace tabs with blanks", "replace blanks with tabs", "have changed places"),
        ("How to convert feet to miles?", "How to convert miles to feet?", "changed places"),
        ("copy `a_x` to `b_x`", "copy `b_x` to `a_x`", "'a_x' and 'b_x'"),
    ],
    "dates": [
        ("Are you open on Monday?", "Are you open on Sunday?", "'monday' is not 'sunday'"),
        ("Are you open on Mondays?", "Are you open?", "'monday' is not no date"),
        ("the weather in July", "the weather in May", "'july' is not 'may'"),
        ("What is on tonight?", "What is on tomorrow?", "'tonight' is not 'tomorrow'"),
        ("the plan for next week", "the plan for next month", "'next week' is not 'next month'"),
        ("last year's winter", "last year's summer", "'winter' is not 'summer'"),
        ("a walk in the morning", "a walk in the evening", "'morning' is not 'evening'"),
    ],
    "units": [
        ("its height in feet", "its height in metres", "'foot' is not 'm'"),
        ("the wind in km/h", "the wind in mph", "'km/h' is not 'mph'"),
        ("the price in euros", "the price in US dollars", "'EUR' is not 'USD'"),
        ("sugar in grams", "sugar in ounces", "'g' is not 'oz'"),
        ("water per hour", "water per minute", "'h' is not 'min'"),
    ],
    "names": [
        ("How big is Oslo?", "How big is Bergen?", "'oslo' is not 'bergen'"),
        ("Did Anna call?", "Did Hannah call?", "'anna' is not 'hannah'"),
        ("Where is terminal A?", "Where is terminal B?", "'a' is not 'b'"),
        ("How old is Can?", "How old is Ali?", "'can' is not 'ali'"),
        ("Could you tell me where Will A is?", "Where is Will Show?", "'a' is not 'show'"),
        ("Who runs O'Neil's shop?", "Who runs O'Hara's shop?", "is not"),
    ],
}

LET_THROUGH = {
    "polarity": [
        ("Why isn't it working?", "Why is it not working?"),
        ("I can't log in.", "I am unable to log in."),
        ("Is it not possible?", "Is it impossible?"),
        ("Is it not legal?", "Is it illegal?"),
        ("I don't know how to tie a tie.", "How do I tie a tie?"),
        ("I'm not sure which bus to take.", "Which bus do I take?"),
        ("Isn't honey vegan?", "Is honey vegan?"),
        ("Do you deliver or not?", "Do you deliver?"),
        ("My payment failed.", "My payment did not go through."),
        ("bread without gluten", "gluten-free bread"),
        ("No, it is white.", "It is white."),
        ("How do I discover the import index?", "How do I cover the port dex?"),
        ("How do I invest and increase it?", "How do I vest and crease it?"),
        ("How do I stop the timer?", "How do I not start the timer?"),
        ("How do I pay?", "How do I pay by card?"),
    ],
    "order": [
        ("In Python, how do I sort a list?", "How do I sort a list in Python?"),
        ("bonds and stocks", "stocks and bonds"),
        ("the difference between tea and coffee", "the difference between coffee and tea"),
        ("from Ayr to Wick", "to Wick from Ayr"),
        ("Did Rome conquer Gaul?", "Was Gaul conquered by Rome?"),
        ("How far is it from Ayr to Wick?", "How far is it from Wick to Ayr?"),
        ("For a cake, how much sugar do I need?", "How much sugar do I need for a cake?"),
        ("What is the capital of France?", "The capital of France is what?"),
        ("How do I get to Rome from the sea?", "How do I get from the sea to Rome?"),
        ("How do I get from gate B to gate F?", "How may I get from gate B to gate F?"),
    ],
    "dates": [
        ("Are you open on Sunday?", "Are you open on Sundays?"),
        ("May I march to the fall line?", "Can I walk to the fall line?"),
        ("How can I fall asleep?", "What helps me to fall asleep?"),
        ("the previous week", "the past week"),
        ("the colours in autumn", "the colours in fall"),
    ],
    "units": [
        ("How tall is it in feet?", "How tall is it?"),
        ("its length in kilometers", "its length in kilometres"),
        ("a second opinion, day by day", "another opinion, foot by foot"),
        ("the price in dollars", "the price in USD"),
    ],
    "names": [
        ("How big is Oslo?", "how big is oslo?"),
        ("How big is Oslo?", "Tell me, how big is it?"),
        ("What does Anna's dog eat?", "What does the dog of Anna eat?"),
        ("Is it on Monday? Yes!", "Is it on Friday? No!"),
    ],
}


def each(pairs: dict[str, Any]) -> list[Any]:
    return [
        pytest.param(guard, *pair, id=f"{guard}: {pair[0]}")
        for guard, of in pairs.items()
        for pair in of
    ]


@pytest.mark.parametrize(("guard", "one", "other", "told"), each(REFUSED))
def test_a_guard_refuses_and_says_what_it_saw(guard: str, one: str, other: str, told: str) -> None:
    refusal = Guards([guard]).refusal(one, other)
    assert refusal is not None
    assert refusal.startswith(f"{guard}: ")
    assert told in refusal
    assert Guards([guard]).refusal(other, one)


@pytest.mark.parametrize(("guard", "one", "other"), each(LET_THROUGH))
def test_a_guard_lets_through_what_differs_in_words_only(guard: str, one: str, other: str) -> None:
    assert Guards([guard]).refusal(one, other) is None
    assert Guards([guard]).refusal(other, one) is None


def test_no_guard_refuses_a_question_to_itself() -> None:
    guards = Guards([*DEFAULT, "names"])
    for of in (*REFUSED.values(), *LET_THROUGH.values()):
        for pair in of:
            assert [guards.refusal(text, text) for text in pair] == [None] * len(pair)


WORDS = sorted(
    {word for of in REFUSED.values() for pair in of for text in pair[:2] for word in text.split()}
)
TEXTS = st.text(max_size=40) | st.lists(st.sampled_from(WORDS), max_size=9).map(" ".join)


@given(TEXTS, TEXTS)
def test_no_text_makes_a_guard_fail_and_both_ways_it_says_the_same(one: str, other: str) -> None:
    for name in (*DEFAULT, "names"):
        guard = Guards([name])
        assert (guard.refusal(one, other) is None) == (guard.refusal(other, one) is None)


@given(TEXTS)
def test_a_text_s_words_are_the_same_whatever_stands_behind_it(text: str) -> None:
    """What lies beyond ASCII has a text read word by word, another way than plain English."""
    assert Words(f"{text} é").lower == [*Words(text).lower, "é"]


MANNERS = st.lists(
    st.sampled_from([*sorted(own_guards._MANNERS), "Please", "Could", "Tell", "please,", "me:"]),
    max_size=3,
)


@given(st.lists(st.tuples(MANNERS, MANNERS, st.sampled_from(WORDS))), MANNERS, MANNERS)
def test_where_only_the_manner_of_asking_differs_no_guard_sees_anything(
    parts: list[tuple[list[str], list[str], str]], mine: list[str], other: list[str]
) -> None:
    """`Guards` asks none then: here they are asked."""
    asked = Words(" ".join([word for one, _, thing in parts for word in (*one, thing)] + mine))
    stored = Words(" ".join([word for _, one, thing in parts for word in (*one, thing)] + other))
    if own_guards._ask_the_same(asked, stored):
        for name in DEFAULT:
            assert own_guards._GUARDS[name](asked, stored) is None


def test_what_asks_the_same_is_told_from_what_does_not() -> None:
    def same(one: str, other: str) -> bool:
        return own_guards._ask_the_same(Words(one), Words(other))

    assert same("Please tell me, could I renew the passport?", "could you renew a passport")
    assert not same("renew the passport", "renew the card")
    assert not same("please do not renew it", "do not renew it"), "the guards are to look at that"
    assert not same("Show me the March results", "the March results")


# In a cache


def cache_on(served: Served, embedder: Any = None, **options: Any) -> SemanticCache:
    given = served.options | {"on_error": "raise", "similarity_threshold": 0.85} | options
    return SemanticCache(embedder or MiniLM(), **given)


@pytest.mark.parametrize(
    ("stored", "asked", "guard"),
    [
        ("How do I make a cake with eggs?", "How do I make a cake without eggs?", "polarity"),
        ("How do I convert miles to km?", "How do I convert km to miles?", "order"),
        ("Is the pool open on Monday?", "Is the pool open on Sunday?", "dates"),
        ("How tall is the tower in feet?", "How tall is the tower in metres?", "units"),
    ],
)
async def test_the_default_guards_turn_a_wrong_answer_into_a_miss_that_says_why(
    either_index: Served, way: Way, stored: str, asked: str, guard: str
) -> None:
    async with cache_on(either_index) as cache, cache_on(either_index, guards=()) as plain:
        await way(cache.store, stored, "an answer")
        assert await way(plain.lookup, asked), "it must be near enough, or nothing is shown"
        miss = await way(cache.lookup, asked)
        assert miss.reason == "guarded"
        assert miss.detail.startswith(f"{guard}: ")
        assert miss.nearest.question == stored
        assert miss.nearest.refused == miss.detail
        assert cache.stats().misses == {"guarded": 1}
        # The question itself still hits, and what is stored for the other is found by its words.
        assert (await way(cache.lookup, stored)).tier == "exact"
        await way(cache.store, asked, "another answer")
        assert (await way(cache.lookup, asked)).answer == "another answer"


async def test_each_default_guard_can_be_had_alone(plain: Served, way: Way) -> None:
    async with cache_on(plain, guards=("order",)) as cache:
        await way(cache.store, "Is the pool open on Monday?", "yes")
        assert await way(cache.lookup, "Is the pool open on Sunday?")


async def test_names_are_compared_when_asked_for(either_index: Served, way: Way) -> None:
    stored, asked = "Can I register a firm in New Jersey?", "Can I register a firm in New York?"
    options = {"similarity_threshold": 0.7}
    names = cache_on(either_index, guards=("names",), **options)
    async with cache_on(either_index, **options) as cache, names:
        await way(cache.store, stored, "yes")
        assert await way(cache.lookup, asked)
        miss = await way(names.lookup, asked)
    assert (miss.reason, miss.detail) == ("guarded", "names: 'york' is not 'jersey'")


async def test_behind_a_refused_neighbour_the_next_one_is_looked_at(
    either_index: Served, way: Way
) -> None:
    def even(asked: str, stored: str) -> str | None:
        return "odd" if "odd" in stored else None

    async with cache_on(
        either_index, HashingEmbedder(), guards=[even], similarity_threshold=0.1
    ) as cache:
        for letter in "vwxyz":
            await way(cache.store, f"a b c d odd {letter}", "wrong")
        # The farther from the question, the more words of its own.
        await way(cache.store, "a b c d even p q r s", "right")
        hit = await way(cache.lookup, "a b c d")
    assert hit.answer == "right"


async def test_after_a_dozen_refusals_a_look_up_gives_up(plain: Served, way: Way) -> None:
    seen: list[str] = []

    def none(asked: str, stored: str) -> str:
        seen.append(stored)
        return "never"

    letters = "abcdefghijklmnopqrstuvwxyz"
    async with cache_on(plain, HashingEmbedder(), guards=[none], similarity_threshold=0.1) as cache:
        for letter in letters:
            await way(cache.store, f"what is {letter}", "x")
        miss = await way(cache.lookup, "what is it")
    assert (miss.reason, miss.detail) == ("guarded", "none: never")
    assert len(set(seen)) == 12


async def test_a_guard_of_the_apps_own_is_given_both_wordings(plain: Served, way: Way) -> None:
    seen = []

    class Brands:
        def __call__(self, asked: str, stored: str) -> str | None:
            seen.append((asked, stored))
            return "another brand" if ("acme" in asked) != ("acme" in stored) else None

    embedder = HashingEmbedder()
    async with cache_on(
        plain, embedder, guards=["polarity", Brands()], similarity_threshold=0.3
    ) as cache:
        await way(cache.store, "the price of an acme phone", "9")
        miss = await way(cache.lookup, "the price of a phone")
        assert (miss.reason, miss.detail) == ("guarded", "Brands: another brand")
        assert await way(cache.lookup, "a price of  an acme phone")
    assert seen[0] == ("the price of a phone", "the price of an acme phone")


async def test_a_guard_that_raises_is_a_miss_and_counted(plain: Served, way: Way) -> None:
    def broken(asked: str, stored: str) -> None:
        raise ZeroDivisionError("a guard of the app's")

    async with cache_on(
        plain, HashingEmbedder(), guards=[broken], similarity_threshold=0.1, on_error="miss"
    ) as cache:
        await way(cache.store, "what is a", "x")
        miss = await way(cache.lookup, "what is b")
        assert miss.reason == "error"
        assert "a guard of the app's" in miss.detail
        assert cache.stats().errors == {"ZeroDivisionError": 1}
        assert await way(cache.lookup, "what is a")


async def test_a_wording_once_let_through_is_not_asked_again(plain: Served, way: Way) -> None:
    asked = []

    def counting(asked_text: str, stored: str) -> None:
        asked.append(asked_text)

    async with cache_on(
        plain, HashingEmbedder(), guards=[counting], similarity_threshold=0.3, promote=True
    ) as cache:
        await way(cache.store, "what is a fox", "x")
        assert (await way(cache.lookup, "what is a red fox")).tier == "semantic"
        assert (await way(cache.lookup, "what is a red fox")).tier == "exact"
    assert asked == ["what is a red fox"]


# Without the stored questions


@pytest.mark.parametrize("guards", [["polarity"], DEFAULT, [lambda asked, stored: None]])
def test_guards_without_questions_are_an_error_that_names_both(guards: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"guards=.* and store_questions=False exclude"):
        SemanticCache(HashingEmbedder(), "valkey://h", guards=guards, store_questions=False)


async def test_without_questions_there_are_no_guards_unless_asked_for(
    plain: Served, way: Way
) -> None:
    stored, asked = "Is the pool open on Monday?", "Is the pool open on Sunday?"
    for guards in (None, ()):
        async with cache_on(plain, store_questions=False, guards=guards) as cache:
            await way(cache.store, stored, "yes")
            assert await way(cache.lookup, asked)


async def test_an_entry_without_its_question_is_not_served_where_guards_are(
    plain: Served, way: Way
) -> None:
    async with cache_on(plain, store_questions=False) as writer, cache_on(plain) as reader:
        await way(writer.store, "How do I bake bread?", "x")
        miss = await way(reader.lookup, "How can I bake bread?")
        assert miss.reason == "guarded"
        assert "store_questions=False" in miss.detail
        assert (await way(reader.lookup, "How do I bake bread?")).tier == "exact"


def test_an_unknown_guard_is_refused_by_name() -> None:
    with pytest.raises(ConfigurationError, match=r"'polarty': it takes 'polarity', 'order'"):
        SemanticCache(HashingEmbedder(), "valkey://h", guards=["polarty"])
