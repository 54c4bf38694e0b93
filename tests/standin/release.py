"""What differs between the releases of valkey-search, as data; nothing is decided here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

ReleaseName = Literal["1.0.2", "1.2.1"]


@dataclass(frozen=True)
class Release:
    """One release: what it can, what it refuses and in which words."""

    name: str
    module_number: int

    # Texts. {name}, {db}, {field}, {command} are filled in.
    index_exists: str
    index_missing: str
    field_missing: str
    wrong_arity: str
    vector_size_prefix: str
    knn_prefix: str
    """Before an error in the values of a KNN clause; {clause} is the clause itself."""

    names_the_bound: bool
    """A number out of range is answered with which bound it broke."""

    # What an index and a query must and may have.
    needs_vector: bool
    """Every index has a vector field and every query a KNN clause."""
    text_fields: bool
    skip_initial_scan: bool
    largest_dimension: int
    largest_k: int | None
    sort_by: bool
    hash_tagged_names: bool

    # Tags in a query.
    tags_split_on: bytes | None
    """None: on the separator of the field."""
    tags_escape: bool
    short_prefix_is_error: bool

    normalises_prefiltered_query: bool
    """Not so in 1.0: a filter that picks the candidates compares the query as it was sent."""

    # FT.INFO.
    info_scopes_refused: bool
    info_counts_as_text: bool
    info_counts_bare_documents: bool
    """A hash under the prefix counts as a document even if none of its fields is indexed."""
    info_sorts_attributes: bool

    acl_by_text: bool
    """The module reads the user's rules itself."""

    # Clusters.
    waits_for_all_nodes: bool
    """FT.CREATE and FT.DROPINDEX return when all nodes know."""
    worst_first_in_cluster: bool
    asks_itself_first: bool
    """Of its own shard a node asks itself, and not one by lot."""

    command_flags: dict[str, tuple[str, ...]]


RELEASES: dict[str, Release] = {
    "1.0.2": Release(
        name="1.0.2",
        module_number=10_000,
        index_exists="Index {name} already exists.",
        index_missing="Index with name '{name}' not found",
        field_missing="Index field `{field}` not exists",
        wrong_arity="ERR wrong number of arguments for {command} command",
        vector_size_prefix="Error parsing vector similarity query: ",
        knn_prefix="Error parsing vector similarity parameters: `{clause}`. ",
        names_the_bound=False,
        needs_vector=True,
        text_fields=False,
        skip_initial_scan=False,
        # The text of the error says 32,768; the check stops one short of it.
        largest_dimension=32_767,
        largest_k=None,
        sort_by=False,
        hash_tagged_names=False,
        tags_split_on=None,
        tags_escape=False,
        short_prefix_is_error=False,
        normalises_prefiltered_query=False,
        info_scopes_refused=False,
        info_counts_as_text=True,
        info_counts_bare_documents=False,
        info_sorts_attributes=False,
        acl_by_text=True,
        waits_for_all_nodes=False,
        worst_first_in_cluster=True,
        asks_itself_first=False,
        command_flags={
            "FT.SEARCH": ("denyoom", "module"),
            "FT.CREATE": ("denyoom", "module"),
            "FT.INFO": ("module",),
            "FT._LIST": ("module",),
            "FT.DROPINDEX": ("module",),
        },
    ),
    "1.2.1": Release(
        name="1.2.1",
        module_number=66_049,
        index_exists="Index {name} in database {db} already exists.",
        index_missing="Index with name '{name}' not found in database {db}",
        field_missing="Index field `{field}` does not exist",
        wrong_arity="ERR wrong number of arguments for '{command}' command",
        vector_size_prefix="Error parsing vector similarity parameters: ",
        knn_prefix="Error parsing vector similarity parameters: ",
        names_the_bound=True,
        needs_vector=False,
        text_fields=True,
        skip_initial_scan=True,
        largest_dimension=32_768,
        largest_k=10_000,
        sort_by=True,
        hash_tagged_names=True,
        tags_split_on=b"|",
        tags_escape=True,
        short_prefix_is_error=True,
        normalises_prefiltered_query=True,
        info_scopes_refused=True,
        info_counts_as_text=False,
        info_counts_bare_documents=True,
        info_sorts_attributes=True,
        acl_by_text=False,
        waits_for_all_nodes=True,
        worst_first_in_cluster=False,
        asks_itself_first=True,
        command_flags={
            "FT.SEARCH": ("readonly", "denyoom", "module"),
            "FT.CREATE": ("write", "denyoom", "module", "fast"),
            "FT.INFO": ("readonly", "module", "fast"),
            "FT._LIST": ("readonly", "module", "admin"),
            "FT.DROPINDEX": ("write", "module", "fast"),
        },
    ),
}

# The same in both.
ACL_CATEGORIES: dict[str, tuple[str, ...]] = {
    "FT.SEARCH": ("@read", "@slow", "@search"),
    "FT.CREATE": ("@write", "@fast", "@search"),
    "FT.INFO": ("@read", "@fast", "@search"),
    "FT._LIST": ("@read", "@admin", "@slow", "@search"),
    "FT.DROPINDEX": ("@write", "@fast", "@search"),
}
REFUSED_WHEN_FULL = frozenset({"FT.SEARCH", "FT.CREATE"})
