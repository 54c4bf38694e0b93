"""What FT.SEARCH says: the arguments read into a `Query`.

No data is seen here; the index is known by its schema alone.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NoReturn

from tests.standin.args import UINT64, Arguments, CommandError, check_range, show, to_uint
from tests.standin.filters import SPACES, Condition, read_filter
from tests.standin.knn import check_size, read_options, read_words
from tests.standin.release import Release
from tests.standin.schema import Schema, VectorField

DEFAULT_LIMIT = (0, 10)
LONGEST_TIMEOUT_MS = 60_000
LARGEST_EF = 1_000_000
LONGEST_QUERY = 10_240


@dataclass
class Returned:
    """One field that the reply shall hold."""

    asked: bytes
    identifier: bytes
    """The field of the hash; the same as `asked` unless that is an alias in the schema."""
    shown_as: bytes


@dataclass
class Knn:
    field: VectorField
    k: int
    vector: bytes
    score_as: bytes


@dataclass
class Query:
    where: Condition | None = None
    knn: Knn | None = None
    returned: list[Returned] = field(default_factory=list)
    """Empty: every field."""
    no_content: bool = False
    first: int = DEFAULT_LIMIT[0]
    count: int = DEFAULT_LIMIT[1]
    timeout_ms: int = 50_000
    dialect: int = 2
    sort_by: bytes | None = None
    descending: bool = False
    with_sort_keys: bool = False


def read_query(release: Release, schema: Schema, items: list[bytes]) -> Query:
    """The arguments after the name of the index.

    Raises:
        CommandError: as the release would refuse them.
    """
    args = Arguments(items)
    text = args.take()
    reader = _QueryReader(release, schema)
    reader.read_options(args)
    reader.read_text(text)
    return reader.query


class _QueryReader:
    def __init__(self, release: Release, schema: Schema) -> None:
        self.release, self.schema = release, schema
        self.query = Query()
        self.params: dict[bytes, bytes] = {}
        self.used: set[bytes] = set()
        self.ef = 1

    # Options.

    def read_options(self, args: Arguments) -> None:
        query = self.query
        options = {
            b"DIALECT": lambda a: setattr(query, "dialect", a.take_uint()),
            b"TIMEOUT": lambda a: setattr(query, "timeout_ms", a.take_uint(UINT64)),
            b"LOCALONLY": lambda _: None,
            b"NOCONTENT": lambda _: setattr(query, "no_content", True),
            b"LIMIT": self._read_limit,
            b"RETURN": self._read_return,
            b"PARAMS": self._read_params,
        }
        if self.release.sort_by:
            options[b"SORTBY"] = self._read_sort_by
            options[b"WITHSORTKEYS"] = lambda _: setattr(query, "with_sort_keys", True)
            flags = (b"ALLSHARDS", b"SOMESHARDS", b"CONSISTENT", b"INCONSISTENT", b"VERBATIM")
            options |= {flag: lambda _: None for flag in flags}
            options[b"INORDER"] = lambda _: self._no_offsets()
            options[b"SLOP"] = lambda _: self._no_offsets()
        args.take_options(options)

    def _read_limit(self, args: Arguments) -> None:
        self.query.first = args.take_uint(UINT64)
        self.query.count = args.take_uint(UINT64)

    def _read_return(self, args: Arguments) -> None:
        count = args.take_uint()
        if count == 0:
            self.query.no_content = True
        seen = 0
        while seen < count:
            asked = args.take()
            shown_as = asked
            seen += 1
            if args.take_if("AS"):
                shown_as = args.take()
                seen += 2
                if seen > count:
                    raise CommandError("Unexpected parameter `AS` ")
            known = self.schema.fields.get(asked)
            identifier = known.identifier if known else asked
            self.query.returned.append(Returned(asked, identifier, shown_as))

    def _read_params(self, args: Arguments) -> None:
        count = args.take_uint()
        if count % 2:
            raise CommandError("Parameter count must be an even number.")
        for _ in range(count // 2):
            name, value = args.take(), args.take()
            if name in self.params:
                raise CommandError(f"Parameter {show(name)} is already defined.")
            self.params[name] = value

    def _read_sort_by(self, args: Arguments) -> None:
        self.query.sort_by = args.take()
        self.query.descending = args.take_if("DESC")
        if not self.query.descending:
            args.take_if("ASC")

    def _no_offsets(self) -> NoReturn:
        raise CommandError("ERR the stand-in does not model INORDER and SLOP")

    # The query itself.

    def read_text(self, text: bytes) -> None:
        before, arrow, after = (x.strip(SPACES) for x in text.partition(b"=>"))
        if not arrow and self.release.needs_vector:
            raise CommandError("Invalid filter format. Missing `=>`")
        if len(text) > LONGEST_QUERY and not self.release.needs_vector:
            raise CommandError(f"Query string is too long, max length is {LONGEST_QUERY} bytes.")
        try:
            self.query.where = read_filter(self.release, self.schema, before)
        except CommandError as error:
            wrong = f"Invalid filter expression: `{show(before)}`. {error}"
            raise CommandError(wrong) from None
        if after or self.release.needs_vector:
            self._read_knn(after)
        elif self.query.where is None:
            raise CommandError("Invalid query string syntax")
        if self.query.sort_by is not None:
            self._known(self.query.sort_by)
        self._check()

    def _read_knn(self, clause: bytes) -> None:
        prefix = f"Error parsing vector similarity parameters: `{show(clause)}`. "
        try:
            words = read_words(clause)
            options = read_options(words[4:])
        except CommandError as error:
            raise CommandError(f"{prefix}{error}") from None
        # 1.0 fills in the parameters before it looks for the field, 1.2 after.
        if self.release.needs_vector:
            k, vector = self._values(clause, words, options)
            found = self._vector_field(words[2][1:])
        else:
            found = self._vector_field(words[2][1:])
            k, vector = self._values(clause, words, options, found)
        score_as = options.get(b"AS") or b"__%s_score" % found.alias
        self.query.knn = Knn(found, k, vector, score_as)

    def _values(
        self,
        clause: bytes,
        words: list[bytes],
        options: dict[bytes, bytes],
        sized_as: VectorField | None = None,
    ) -> tuple[int, bytes]:
        try:
            k = to_uint(self._fill_in(words[1]))
            vector = self._fill_in(words[3])
            if sized_as is not None:
                check_size(vector, sized_as)
            if b"EF_RUNTIME" in options:
                self.ef = to_uint(self._fill_in(options[b"EF_RUNTIME"]))
            if b"AS" in options:
                options[b"AS"] = self._fill_in(options[b"AS"])
        except CommandError as error:
            prefix = self.release.knn_prefix.format(clause=show(clause))
            raise CommandError(f"{prefix}{error}") from None
        return k, vector

    def _fill_in(self, word: bytes) -> bytes:
        if not word.startswith(b"$"):
            return word
        if word[1:] not in self.params:
            raise CommandError(f"Parameter {show(word[1:])} not found.")
        self.used.add(word[1:])
        return self.params[word[1:]]

    def _vector_field(self, alias: bytes) -> VectorField:
        found = self.schema.fields[self._known(alias)]
        if not isinstance(found, VectorField):
            raise CommandError(f"Index field `{show(alias)}` is not a Vector index ")
        return found

    def _known(self, alias: bytes) -> bytes:
        if alias not in self.schema.fields:
            raise CommandError(self.release.field_missing.format(field=show(alias)))
        return alias

    def _check(self) -> None:
        query, knn = self.query, self.query.knn
        if knn is not None:
            self._check_knn(knn)
        if query.timeout_ms > LONGEST_TIMEOUT_MS:
            raise CommandError(
                "TIMEOUT must be a positive integer greater than 0 and cannot exceed "
                f"{LONGEST_TIMEOUT_MS}."
            )
        if not 2 <= query.dialect <= 4:
            raise CommandError("DIALECT requires a non negative integer >=2 and <= 4")
        for name in self.params:
            if name not in self.used:
                raise CommandError(f"Parameter `{show(name)}` not used.")
        if knn is not None and self.release.needs_vector:
            try:
                check_size(knn.vector, knn.field)
            except CommandError as error:
                raise CommandError(f"{self.release.vector_size_prefix}{error}") from None

    def _check_knn(self, knn: Knn) -> None:
        if not self.release.names_the_bound:
            if not knn.vector:
                raise CommandError("missing vector parameter")
            if self.ef == 0:
                raise CommandError("`EF` value must be positive")
            if knn.k == 0:
                raise CommandError("k must be positive")
            return
        check_range(
            self.release,
            self.ef,
            1,
            LARGEST_EF,
            "`EF_RUNTIME` must be a positive integer greater than 0 and cannot exceed "
            f"{LARGEST_EF}.",
        )
        check_range(
            self.release,
            knn.k,
            1,
            self.release.largest_k,
            "KNN parameter must be a positive integer greater than 0 and cannot exceed "
            f"{self.release.largest_k}.",
        )
