"""What in a question must match to the letter."""

from __future__ import annotations

import pytest

from valkey_semcache.features import exact_features

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
]


@pytest.mark.parametrize(("one", "other"), APART)
def test_kept_apart(one: str, other: str) -> None:
    assert exact_features(one) != exact_features(other)


@pytest.mark.parametrize(("one", "other"), TOGETHER)
def test_not_kept_apart(one: str, other: str) -> None:
    assert exact_features(one) == exact_features(other)
