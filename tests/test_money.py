"""What a cache has saved, in tokens and in dollars."""

from __future__ import annotations

import subprocess
import sys
from decimal import Decimal
from typing import Any

import genai_prices
import pytest

from tests.conftest import Way
from tests.embedders import HashingEmbedder
from tests.servers import Served
from valkey_semcache import LocalTier, Question, SemanticCache, Stats
from valkey_semcache.prices import priced

ASKED = "how do i reset the password of my account"
REWORDED = "how do i reset the password of my own account"


async def test_hits_add_up_tokens_and_dollars_by_model(either_index: Served, way: Way) -> None:
    options: dict[str, Any] = either_index.options | {"on_error": "raise", "local": LocalTier()}
    usage = {"input_tokens": 1000, "output_tokens": 200, "total_tokens": 1200}
    async with SemanticCache(HashingEmbedder(), **options) as cache:
        for model in ("gpt-4o", "gpt-4o-mini", "a model of my own"):
            await way(cache.store, Question(ASKED, identity=model, model=model), "x", usage=usage)
        await way(cache.store, "no usage", "x")
        for model, words in (("gpt-4o", ASKED), ("gpt-4o", REWORDED), ("a model of my own", ASKED)):
            assert await way(cache.lookup, Question(words, identity=model, model=model))
        assert await way(cache.lookup, "no usage")
        stats = cache.stats()
    assert stats.saved_tokens == {"input_tokens": 3000, "output_tokens": 600, "total_tokens": 3600}
    assert stats.saved_by_model["gpt-4o"]["input_tokens"] == 2000
    assert set(stats.saved_by_model) == {"gpt-4o", "a model of my own"}
    # The list price of gpt-4o has been 2.50 and 10 dollars for a million tokens in and out.
    assert stats.saved_usd == {"gpt-4o": Decimal("0.009")}
    assert "saved USD     0.0090 gpt-4o" in str(stats)


def test_each_request_is_priced_at_its_own_length() -> None:
    """Some prices are higher for long requests; many short ones are not one long one."""
    model = "gemini-2.5-pro"
    one = genai_prices.calc_price(genai_prices.Usage(input_tokens=100_000), model).total_price
    long = genai_prices.calc_price(genai_prices.Usage(input_tokens=1_000_000), model).total_price
    assert long > 10 * one, "this model's price depends on the length"
    assert priced({model: {"input_tokens": 1_000_000}}, {model: 10}) == {model: 10 * one}


@pytest.mark.parametrize("model", ["", "no such model", "\x00"])
def test_a_model_without_a_price_is_left_out(model: str) -> None:
    assert priced({model: {"input_tokens": 5}}, {model: 1}) == {}
    assert priced({"gpt-4o": {}}, {}) == {}


def test_without_the_package_there_are_no_dollars_and_no_error() -> None:
    script = (
        "import sys; sys.modules['genai_prices'] = None\n"
        "from valkey_semcache.stats import Counters\n"
        "from valkey_semcache.outcome import Hit\n"
        "counters = Counters()\n"
        "counters.seen(Hit('exact', 1.0, None, 'x', 0.0, 'gpt-4o', {'input_tokens': 5}, 'k'))\n"
        "stats = counters.snapshot('closed', None)\n"
        "print(stats.saved_usd, 'USD' in str(stats), stats.saved_tokens)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout.strip() == "{} False {'input_tokens': 5}", done.stderr


def test_importing_the_core_and_taking_stats_does_not_import_prices() -> None:
    script = (
        "import sys; from valkey_semcache import SemanticCache, Stats\n"
        "from valkey_semcache.stats import Counters\n"
        "Counters().snapshot('closed', None); print('genai_prices' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout.strip() == "False", done.stderr
    assert Stats is not None
