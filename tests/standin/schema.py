"""What FT.CREATE says: the arguments read into a `Schema`.

Nothing is stored here and no data is seen.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from tests.standin.args import Arguments, CommandError, check_range, has_hash_tag, show
from tests.standin.release import Release

INITIAL_CAP = 10_240
LARGEST_INITIAL_CAP = 10_000_000
ALIAS_PUNCTUATION = b",.<>{}[]\"':;!@#$%^&*()-+=~/\\|?"
METRICS = {b"COSINE": "COSINE", b"IP": "IP", b"L2": "L2"}


@dataclass
class TagField:
    identifier: bytes
    alias: bytes
    separator: bytes = b","
    case_sensitive: bool = False


@dataclass
class NumericField:
    identifier: bytes
    alias: bytes


@dataclass
class TextField:
    """Declared, but not modelled: no query can use it here."""

    identifier: bytes
    alias: bytes


@dataclass
class VectorField:
    identifier: bytes
    alias: bytes
    algorithm: str = "FLAT"
    dimensions: int | None = None
    metric: str | None = None
    data_type: str | None = None
    initial_cap: int = INITIAL_CAP
    block_size: int = 1024
    m: int = 16
    ef_construction: int = 200
    ef_runtime: int = 10

    @property
    def size(self) -> int:
        """Bytes of one vector."""
        return 4 * (self.dimensions or 0)


Field = TagField | NumericField | TextField | VectorField


@dataclass
class Schema:
    name: bytes
    prefixes: list[bytes] = field(default_factory=list)
    fields: dict[bytes, Field] = field(default_factory=dict)
    """By alias."""
    skip_initial_scan: bool = False


def read_schema(release: Release, items: list[bytes]) -> Schema:
    """The arguments after FT.CREATE.

    Raises:
        CommandError: as the release would refuse them.
    """
    args = Arguments(items)
    schema = Schema(args.take())
    if has_hash_tag(schema.name) and not release.hash_tagged_names:
        raise CommandError("Index name must not contain a hash tag")
    if _read_choice(args, "ON", {b"HASH": "hash", b"JSON": "json"}) == "json":
        raise CommandError("JSON module is not loaded.")
    _read_prefixes(release, args, schema)
    _refuse(args, "FILTER")
    _read_options(release, args, schema)
    word = args.take()
    if word.upper() != b"SCHEMA":
        raise CommandError(f"Unexpected parameter `{show(word)}`, expecting `SCHEMA`")
    if not args.left:
        raise CommandError("Index schema must have at least one attribute")
    identifiers: set[bytes] = set()
    while args.left:
        identifier = args.take()
        try:
            made = _read_field(release, args, identifier)
        except CommandError as error:
            text = f"Invalid field type for field `{show(identifier)}`: {error}"
            raise CommandError(text) from None
        if identifier in identifiers:
            raise CommandError(f"Duplicate field in schema - {show(identifier)}")
        identifiers.add(identifier)
        schema.fields[made.alias] = made
    vectors = [x for x in schema.fields.values() if isinstance(x, VectorField)]
    if release.needs_vector and not vectors:
        raise CommandError("At least one attribute must be indexed as a vector")
    return schema


def _read_choice(args: Arguments, name: str, choices: dict[bytes, str]) -> str | None:
    if not args.take_if(name):
        return None
    try:
        return args.take_one_of(choices)
    except CommandError as error:
        raise CommandError(f"Bad arguments for {name}: {error}") from None


def _read_prefixes(release: Release, args: Arguments, schema: Schema) -> None:
    if not args.take_if("PREFIX"):
        schema.prefixes = [b""]
        return
    try:
        count = args.take_uint()
        if count > args.left:
            raise CommandError(f"`{count}` is outside acceptable bounds")
    except CommandError as error:
        raise CommandError(f"Bad arguments for PREFIX: {error}") from None
    for _ in range(count):
        prefix = args.take()
        if has_hash_tag(prefix) and not has_hash_tag(schema.name):
            raise CommandError("PREFIX argument(s) must not contain a hash tag")
        schema.prefixes.append(prefix)
    schema.prefixes = schema.prefixes or [b""]


def _refuse(args: Arguments, *words: str) -> None:
    for word in words:
        if args.take_if(word):
            raise CommandError(f"The parameter `{word}` is not supported")


def _read_options(release: Release, args: Arguments, schema: Schema) -> None:
    """What may stand between the prefixes and SCHEMA; 1.0 wants it in this order."""
    before = -1
    while args.left and args.at != before and args.peek().upper() != b"SCHEMA":
        before = args.at
        _read_choice(args, "LANGUAGE", {b"ENGLISH": "english"})
        _refuse(args, "LANGUAGE_FIELD")
        if args.take_if("SCORE"):
            score = args.take()
            if score not in (b"1", b"1.0"):
                raise CommandError(
                    f"`SCORE` parameter with a value `{show(score)}` is not supported. "
                    "The only supported value is `1.0`"
                )
        _refuse(args, "SCORE_FIELD", "PAYLOAD_FIELD")
        if release.skip_initial_scan and args.take_if("SKIPINITIALSCAN"):
            schema.skip_initial_scan = True
        if not release.text_fields:
            return


def _read_field(release: Release, args: Arguments, identifier: bytes) -> Field:
    alias = args.take() if args.take_if("AS") else identifier
    if release.text_fields:
        for byte in alias:
            if byte in ALIAS_PUNCTUATION:
                raise CommandError(
                    f"Attribute alias `{show(alias)}` contains invalid character `{chr(byte)}`"
                )
    kinds: dict[bytes, type[Field]] = {
        b"TAG": TagField,
        b"NUMERIC": NumericField,
        b"VECTOR": VectorField,
    }
    if release.text_fields:
        kinds[b"TEXT"] = TextField
    made = args.take_one_of(kinds)(identifier, alias)
    if isinstance(made, TagField):
        _read_tag(args, made)
    elif isinstance(made, VectorField):
        _read_vector(release, args, made)
    elif isinstance(made, TextField):
        flags = (b"WITHSUFFIXTRIE", b"NOSUFFIXTRIE", b"NOSTEM")
        args.take_options({x: lambda _: None for x in flags}, stop_at_unknown=True)
    if release.text_fields:
        args.take_if("SORTABLE")
    return made


def _read_tag(args: Arguments, made: TagField) -> None:
    def separator(args: Arguments) -> None:
        made.separator = args.take()

    def case_sensitive(_: Arguments) -> None:
        made.case_sensitive = True

    options = {b"SEPARATOR": separator, b"CASESENSITIVE": case_sensitive}
    args.take_options(options, stop_at_unknown=True)
    if len(made.separator) != 1:
        text = f"The separator must be a single character, but got `{show(made.separator)}`"
        raise CommandError(text)


def _read_vector(release: Release, args: Arguments, made: VectorField) -> None:
    made.algorithm = args.take_one_of({b"HNSW": "HNSW", b"FLAT": "FLAT"})
    count = args.take_uint()
    if count > args.left + 1:
        raise CommandError(
            f"Expected {count} parameters for {made.algorithm} but got {args.left} parameters."
        )
    if count == 0:
        raise CommandError("distance must be positive")
    if count > args.left:
        raise CommandError("Missing argument")
    own = Arguments(args.items[args.at : args.at + count])

    def number(name: str) -> Callable[[Arguments], None]:
        return lambda args: setattr(made, name, args.take_int())

    def choice(name: str, choices: dict[bytes, str]) -> Callable[[Arguments], None]:
        return lambda args: setattr(made, name, args.take_one_of(choices))

    options = {
        b"DIM": number("dimensions"),
        b"TYPE": choice("data_type", {b"FLOAT32": "FLOAT32"}),
        b"DISTANCE_METRIC": choice("metric", METRICS),
        b"INITIAL_CAP": number("initial_cap"),
    }
    if made.algorithm == "HNSW":
        for name in ("m", "ef_construction", "ef_runtime"):
            options[name.upper().encode()] = number(name)
    else:
        options[b"BLOCK_SIZE"] = number("block_size")
    own.take_options(options)
    args.at += count
    _check_vector(release, made)


def _check_vector(release: Release, made: VectorField) -> None:
    if made.dimensions is None:
        raise CommandError("Missing dimensions parameter.")
    check_range(
        release,
        made.dimensions,
        1,
        release.largest_dimension,
        "The dimensions value must be a positive integer greater than 0 and less than or "
        "equal to 32768.",
    )
    cap = "INITIAL_CAP must be a positive integer greater than 0."
    if release.names_the_bound:
        cap = cap.replace("0.", f"0 and cannot exceed {LARGEST_INITIAL_CAP}.")
    check_range(release, made.initial_cap, 1, LARGEST_INITIAL_CAP, cap)
    if made.data_type is None:
        raise CommandError("Missing vector TYPE parameter.")
    if made.metric is None:
        raise CommandError("Missing DISTANCE_METRIC parameter.")
    if made.algorithm == "FLAT":
        return
    largest_ef = 1_000_000 if release.text_fields else 4096
    bounds = (("m", 2_000_000), ("ef_construction", largest_ef), ("ef_runtime", largest_ef))
    for name, largest in bounds:
        lowest = 2 if name == "m" and release.text_fields else 1
        text = (
            f"{name.upper()} must be a positive integer greater than "
            f"{2 if lowest == 2 else 0} and cannot exceed {largest}."
        )
        check_range(release, getattr(made, name), lowest, largest, text)
