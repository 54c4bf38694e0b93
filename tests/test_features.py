"""What in a question must match to the letter."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.conftest import Way
from tests.embedders import HashingEmbedder
from tests.servers import Served
from valkey_semcache import ConfigurationError, SemanticCache
from valkey_semcache.text.features import exact_features

APART = [
    ("who won in 2023", "who won in 2024"),
    ("100 USD", "200 USD"),
    ("5 miles", ".5 miles"),
    ("25 percent", "0.25 percent"),
    (".25", "25"),
    ("10", "10k"),
    ("3.5", "3.5%"),
    ("3.5", "35"),
    ("is it -5 degrees", "is it 5 degrees"),
    ("is it \u22125 degrees", "is it 5 degrees"),
    ("is 5 > 3", "is 5 < 3"),
    ("what is 5 + 3", "what is 5 - 3"),
    ("what is 5 - 3", "what is 3 - 5"),
    ("$100", "€100"),
    ("version 1.2.3", "version 1.2.4"),
    ("at 10:30", "at 10:31"),
    ("translate 'cat'", "translate 'dog'"),
    ('translate "one\ntwo"', 'translate "one\nthree"'),
    ("translate “cat”", "translate “dog”"),
    ("übersetze „Hund“", "übersetze „Katze“"),
    ("explique «chat»", "explique «chien»"),
    ("what does `ls -l` do", "what does `ls -a` do"),
    ("what does ```\na\n``` do", "what does ```\nb\n``` do"),
    ("open https://a.example/x", "open https://a.example/y"),
    ("write to ann@a.example", "write to bob@a.example"),
    ("what is love", "что такое любовь"),
    ("what is π", "what is pi"),
    ("東京とは", "东京是什么"),
    ("٣ apples", "٤ apples"),
    # numbers in words, ordinals, Roman numerals
    ("two eggs", "three eggs"),
    ("two eggs", "one egg"),
    ("the second president", "the third president"),
    ("the first president", "the second president"),
    ("the 10 largest cities", "the 10th largest city"),
    ("a hundred and five", "a hundred and fifteen"),
    ("nineteen eighty-four", "nineteen eighty-five"),
    ("2.5 million people", "2.5 billion people"),
    ("$5M", "$5K"),
    ("charged twice", "charged thrice"),
    ("World War I", "World War II"),
    ("world war two", "world war one"),
    ("Henry VII", "Henry VIII"),
    ("Elizabeth I", "Elizabeth II"),
    ("henry vii", "henry viii"),
    # units and currencies
    ("run 5 km", "run 5 miles"),
    ("for 3 days", "for 3 weeks"),
    ("100 USD", "100 EUR"),
    ("$100", "100 euros"),
    ("C$100", "US$100"),
    ("100 pounds", "£100"),
    ("20 °C", "20 °F"),
    ("20 degrees celsius", "20 degrees fahrenheit"),
    ("20 MB", "20 GB"),
    ("5m", "5M"),
    ("vitamin B6", "vitamin D6"),
    ("GPT-4", "GPT-4o"),
    ("a 3D film", "a 3 km film"),
    # dates and times
    ("on 5 March", "on 5 April"),
    ("on 5 March 2023", "on 5 March 2024"),
    ("in March 2023", "in May 2023"),
    ("on 2024-03-01", "on 2024-01-03"),
    ("part 10.45.2023", "part 2023-45-10"),  # no dates
    ("at 9 am", "at 9 pm"),
    # operators
    ("x + 3 = 5", "x - 3 = 5"),
    ("x^2 + 5x + 6", "x^2 - 5x + 6"),
    ("5 plus 3", "5 minus 3"),
    ("if x <= 5", "if x >= 5"),
    ("(2 + 3) * 4", "(2 + 3) / 4"),
    # links and code
    ("is example.com down", "is example.org down"),
    ("what is in main.py", "what is in setup.py"),
    ("ls -l", "ls -a"),
    ("git push --force", "git push --tags"),
    ("what does load_all do", "what does load_one do"),
    ("call open() first", "call close() first"),
    ("look into /etc/hosts", "look into /etc/passwd"),
    ("a loop in C++", "a loop in C#"),
    ("a loop in C++", "a loop in C"),
]

TOGETHER = [
    ("what is it", "what's it"),
    ("the dogs' bowls and the cat's", "the bowls of dogs and cats"),
    ("1,000 USD", "USD 1000"),
    ("the population in 2023", "2023's population"),
    ("covid-19 rules", "rules for covid 19"),
    ("３ apples", "3 apples"),
    ("٣ apples", "3 apples"),
    ("что такое Valkey", "что такое база"),
    ("café prices", "cafe prices"),
    ("東京とは何", "トウキョウって何"),
    ("a b c", ""),
    # numbers
    ("1,000,000 people", "1 million people"),
    ("1\u202f000 people", "1000 people"),
    ("10k followers", "10,000 followers"),
    ("two eggs", "2 eggs"),
    ("twenty-five eggs", "25 eggs"),
    ("two hundred and five", "205"),
    ("two and three", "2 and 3"),
    ("a dozen eggs", "12 eggs"),
    ("charged twice", "charged two times"),
    ("the 2nd largest city", "the second largest city"),
    ("the twenty-first century", "the 21st century"),
    ("metres per second", "metres a second"),
    ("first of all, who are you", "who are you"),
    ("no one", "one of them"),
    ("World War II", "WW2"),
    ("world war two", "the Second World War"),
    ("Henry VIII's wives", "the wives of henry viii"),
    ("an IV drip in the XL room, I think", "a drip"),
    ("3.50 euros", "3,50 euros"),
    (".5 litres", "0.5 liters"),
    ("½ cup", "1/2 cup"),
    # units and currencies
    ("100 USD", "$100"),
    ("100 dollars", "US$ 100"),
    ("2 million dollars", "$2M"),
    ("5 km", "5 kilometres"),
    ("a 30-day trial", "a trial of 30 days"),
    ("a 4-year-old", "4 years old"),
    ("3.5%", "3.5 percent"),
    ("3.5 %", "3.5 per cent"),
    ("20 °C", "20 degrees Celsius"),
    ("one cup", "1 cup"),
    ("5 in a row", "in a row of 5"),
    ("60 mph", "60 miles per hour"),
    ("vitamin B12", "vitamin B-12"),
    ("version 2.1", "v2.1"),
    # dates and times
    ("5 March 2023", "March 5th, 2023"),
    ("the fifth of March 2023", "2023-03-05"),
    ("05.03.2023", "5 Mar 2023"),
    ("Sept. 5", "5 September"),
    ("8 pm", "8:00 p.m."),
    ("20:00", "8pm"),
    # operators count only where they join numbers or letters
    ("top 5 + bonus = fun * joy", "top 5 bonus"),
    ("from 2020-2024", "2020 to 2024"),
    ("3 x 4", "3 times 4"),
    ("3 × 4", "3 * 4"),
    # links, quotations
    ("see https://Example.com/a.", "https://example.com/a/ says what?"),
    ("translate 'cat'", 'translate "cat"'),
    ("e.g. node.js and the U.S. and/or 24/7", "24/7"),
]

PIECES = sorted({word for pair in APART + TOGETHER for text in pair for word in text.split()})


@pytest.mark.parametrize(("one", "other"), APART)
def test_kept_apart(one: str, other: str) -> None:
    assert exact_features(one) != exact_features(other)


@pytest.mark.parametrize(("one", "other"), TOGETHER)
def test_not_kept_apart(one: str, other: str) -> None:
    assert exact_features(one) == exact_features(other)


@given(st.text(max_size=60) | st.lists(st.sampled_from(PIECES)).map(" ".join))
@example("1,")
@example("²/3 of ①")
@example("0 zero hundred and and thousand seconds")
def test_no_text_makes_it_fail(text: str) -> None:
    exact_features(text)


# A function of the app's own


def airports(text: str) -> list[str]:
    return [word for word in text.split() if word in ("OSL", "VIE")]


def cache_on(served: Served, **options: Any) -> SemanticCache:
    given = {"similarity_threshold": 0.3, "on_error": "raise"}
    return SemanticCache(HashingEmbedder(), **(served.options | given | options))


async def test_the_app_names_what_else_must_match(either_index: Served, way: Way) -> None:
    async with cache_on(either_index, features=airports) as cache:
        await way(cache.store, "how do I get from OSL to town", "by train")
        assert not await way(cache.lookup, "how do I get from VIE to town")
        assert not await way(cache.lookup, "how do I get from there to town")
        assert await way(cache.lookup, "how do I get from OSL into town")
        # Numbers still count.
        assert not await way(cache.lookup, "how do I get from OSL into town 2")


async def test_an_error_in_it_leaves_the_very_words(
    plain: Served, way: Way, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(text: str) -> list[str]:
        raise LookupError("no such airport")

    async with cache_on(plain, features=broken, on_error="miss") as cache:
        with caplog.at_level(logging.WARNING):
            miss = await way(cache.lookup, "one two three")
        assert miss.reason == "exact_only"
        assert "features= raised LookupError" in miss.detail
        assert "no such airport" in caplog.text
        assert await way(cache.store, "one two three", "x")
        assert (await way(cache.lookup, "one two three")).tier == "exact"
        assert cache.stats().errors == {"LookupError": 3}
        assert cache.stats().embeddings == 0


async def test_an_error_in_it_is_raised_if_asked_for(plain: Served, way: Way) -> None:
    def broken(text: str) -> list[str]:
        raise LookupError("no such airport")

    async with cache_on(plain, features=broken) as cache:
        with pytest.raises(LookupError, match="no such airport"):
            await way(cache.lookup, "one two three")
        with pytest.raises(LookupError, match="no such airport"):
            await way(cache.store, "one two three", "x")


@pytest.mark.parametrize("returned", ["OSL", [1], [b"OSL"]])
async def test_what_it_returns_must_be_strings(plain: Served, way: Way, returned: Any) -> None:
    async with cache_on(plain, features=lambda text: returned) as cache:
        with pytest.raises(ConfigurationError, match=r"features= returned .*a list of strings"):
            await way(cache.lookup, "a question")
