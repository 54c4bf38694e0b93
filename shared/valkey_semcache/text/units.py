"""Units and currencies in their many spellings.

Rule of this file: a table. Spellings of one unit have one name; two units never share one, and
what is also an everyday word ("in", "a") is left out.
"""

from __future__ import annotations

_SPELLINGS = {
    # length and area
    "km": "kilometer kilometers kilometre kilometres kms",
    "m": "meter meters metre metres",
    "cm": "centimeter centimeters centimetre centimetres",
    "mm": "millimeter millimeters millimetre millimetres",
    "mile": "miles mi",
    "foot": "feet ft",
    "inch": "inches",
    "yard": "yards yd yds",
    "acre": "acres",
    "hectare": "hectares ha",
    "sqm": "square-meter square-meters square-metre square-metres m²",
    "sqft": "square-foot square-feet",
    "sqkm": "square-kilometers square-kilometres square-kilometer square-kilometre",
    # weight
    "kg": "kilogram kilograms kilogramme kilogrammes kilo kilos kgs",
    "g": "gram grams gramme grammes",
    "mg": "milligram milligrams",
    "µg": "microgram micrograms mcg ug",
    "lb": "pound pounds lbs",
    "oz": "ounce ounces",
    "t": "tonne tonnes",
    "ton": "tons",
    # volume
    "l": "liter liters litre litres",
    "ml": "milliliter milliliters millilitre millilitres",
    "gallon": "gallons gal",
    "pint": "pints",
    "quart": "quarts",
    "barrel": "barrels",
    "cup": "cups",
    "tbsp": "tablespoon tablespoons",
    "tsp": "teaspoon teaspoons",
    # temperature
    "°C": "celsius centigrade degree-celsius degrees-celsius degrees-c °c",
    "°F": "fahrenheit degree-fahrenheit degrees-fahrenheit degrees-f °f",
    "kelvin": "kelvins",
    "degree": "degrees °",
    # time
    "ms": "millisecond milliseconds",
    "s": "second seconds sec secs",
    "min": "minute minutes mins",
    "h": "hour hours hr hrs",
    "day": "days",
    "week": "weeks wk wks",
    "month": "months",
    "year": "years yr yrs",
    "decade": "decades",
    "century": "centuries",
    # speed
    "km/h": "kmh kph kilometers-per-hour kilometres-per-hour",
    "mph": "miles-per-hour",
    "m/s": "meters-per-second metres-per-second",
    "knot": "knots",
    # data
    "bit": "bits",
    "byte": "bytes",
    "kb": "kilobyte kilobytes",
    "mb": "megabyte megabytes",
    "gb": "gigabyte gigabytes",
    "tb": "terabyte terabytes",
    "mbit": "megabit megabits",
    "gbit": "gigabit gigabits",
    "mbps": "mbit/s megabits-per-second",
    "gbps": "gbit/s gigabits-per-second",
    # power and the like
    "w": "watt watts",
    "kw": "kilowatt kilowatts",
    "mw": "megawatt megawatts",
    "kwh": "kilowatt-hour kilowatt-hours",
    "v": "volt volts",
    "ampere": "amp amps amperes",
    "hz": "hertz",
    "khz": "kilohertz",
    "mhz": "megahertz",
    "ghz": "gigahertz",
    "kcal": "calorie calories kilocalorie kilocalories",
    "kj": "kilojoule kilojoules",
    "psi": "",
    # shares
    "%": "percent per-cent pct",
    # money
    "USD": "$ us$ usd dollar dollars us-dollar us-dollars buck bucks",
    "CAD": "c$ ca$ cad canadian-dollar canadian-dollars",
    "AUD": "a$ au$ aud australian-dollar australian-dollars",
    "EUR": "€ eur euro euros",
    "GBP": "£ gbp quid pounds-sterling pound-sterling british-pound british-pounds",
    "JPY": "¥ jpy yen japanese-yen",
    "CHF": "chf swiss-franc swiss-francs",
    "franc": "francs",
    "INR": "₹ inr rupee rupees",
    "CNY": "cny rmb yuan",
    "SEK": "sek swedish-krona swedish-kronor",
    "DKK": "dkk danish-krone danish-kroner",
    "NOK": "nok norwegian-krone norwegian-kroner",
    "PLN": "pln zloty",
    "cent": "cents",
}

UNITS: dict[str, str] = {
    spelling: unit
    for unit, spellings in _SPELLINGS.items()
    for spelling in (unit.lower(), *spellings.split())
}
"""The unit by its spelling, in lower case; a spelling of several words has hyphens for blanks."""

_CERTAIN = frozenset(("km", "cm", "mm", "kg", "mg", "ml", "kb", "mb", "gb", "tb", "lb", "oz", "kw"))
LONE = (
    frozenset(spelling for spelling in UNITS if len(spelling) > 2 and spelling.isalpha())
    - frozenset(("second", "day", "foot", "yard", "degree", "degrees", "bit", "bits", "sec", "min"))
    - frozenset(("ton", "psi", "gal", "buck", "wks"))
) | _CERTAIN
"""Spellings that mean a unit without a number beside them ("in miles")."""


def unit_of(words: list[str]) -> str:
    """The unit that the first of some words spell, the longest spelling first; "" for none."""
    for count in range(min(3, len(words)), 0, -1):
        unit = UNITS.get("-".join(words[:count]))
        if unit:
            return unit
    return ""
