"""What the tokens that a cache has saved would have cost, by the package `genai-prices`.

Rule of this file: an estimate from the prices that come with the package, and nothing is fetched.
A model that it does not know has no price here.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any


def priced(saved: Mapping[str, Mapping[str, int]], hits: Mapping[str, int]) -> dict[str, Decimal]:
    """US dollars by model; empty where `genai-prices` is not installed.

    Args:
        saved: By model, tokens by name, of which `input_tokens` and `output_tokens` count.
        hits: By model, how many answers these tokens are of: some prices depend on the length of
            a single request, so the average one is priced.
    """
    try:
        import genai_prices
    except ImportError:
        return {}
    found = {}
    for model, tokens in saved.items():
        price = _price(genai_prices, model, tokens, hits.get(model, 0))
        if price is not None:
            found[model] = price
    return found


def _price(prices: Any, model: str, tokens: Mapping[str, int], hits: int) -> Decimal | None:
    if not model or not hits:
        return None
    names = ("input_tokens", "output_tokens")
    usage = {name: round(tokens.get(name, 0) / hits) for name in names}
    try:
        price: Decimal = prices.calc_price(prices.Usage(**usage), model).total_price
    except (LookupError, ValueError):
        return None
    return price * hits
