"""What FT.INFO answers about an index.

The names and their order are the module's; the list is flat in RESP3 too.
"""

from __future__ import annotations

from typing import Any

from tests.standin.index import Index
from tests.standin.resp import Simple
from tests.standin.schema import Field, NumericField, TagField, VectorField


def describe(index: Index, *, backfilling: bool) -> list[Any]:
    """The reply of FT.INFO."""
    release, schema = index.release, index.schema
    fields = list(schema.fields.values())
    if release.info_sorts_attributes:
        fields.sort(key=lambda x: x.alias)
    documents = index.count_documents()
    records = sum(index.size_of(x.alias) for x in fields)
    info: dict[str, Any] = {"index_name": _simple(schema.name)}
    if release.info_counts_as_text:
        info["index_options"] = []
    info["index_definition"] = _flat(
        key_type=Simple("HASH"), prefixes=[_simple(x) for x in schema.prefixes], default_score="1"
    )
    info["attributes"] = [_describe_field(index, x) for x in fields]
    if release.info_counts_as_text:
        info |= {"num_docs": str(documents), "num_terms": "0", "num_records": str(records)}
    else:
        info |= {"num_docs": documents, "num_records": records}
        info |= {"total_term_occurrences": 0, "num_terms": 0}
    info |= {
        "hash_indexing_failures": str(index.failures),
        "backfill_in_progress": "1" if backfilling else "0",
        "backfill_complete_percent": "0.000000" if backfilling else "1.000000",
        "mutation_queue_size": "0",
        "recent_mutations_queue_delay": "0 sec",
        "state": Simple("backfill_in_progress" if backfilling else "ready"),
    }
    if not release.info_counts_as_text:
        info["language"] = Simple("english")
    return _flat(**info)


def _describe_field(index: Index, field: Field) -> list[Any]:
    info: dict[str, Any] = {
        "identifier": _simple(field.identifier),
        "attribute": _simple(field.alias),
    }
    if not index.release.info_counts_as_text:
        info["user_indexed_memory"] = index.bytes_of(field.alias)
    size = str(index.size_of(field.alias))
    if isinstance(field, VectorField):
        return _flat(**info, type=Simple("VECTOR"), index=_describe_vectors(field, size))
    if isinstance(field, NumericField):
        return _flat(**info, type=Simple("NUMERIC"), size=size)
    if not isinstance(field, TagField):
        return _flat(**info, type=Simple("TEXT"))
    told = _flat(**info, type=Simple("TAG"), SEPARATOR=_simple(field.separator))
    if not index.release.info_counts_as_text:
        told += [Simple("CASESENSITIVE"), Simple("1" if field.case_sensitive else "0")]
    elif field.case_sensitive:
        told.append(Simple("CASESENSITIVE"))
    return [*told, Simple("size"), size]


def _describe_vectors(field: VectorField, size: str) -> list[Any]:
    algorithm: dict[str, Any] = {"name": Simple(field.algorithm)}
    if field.algorithm == "HNSW":
        algorithm |= {
            "m": field.m,
            "ef_construction": field.ef_construction,
            "ef_runtime": field.ef_runtime,
        }
    else:
        algorithm["block_size"] = field.block_size
    return _flat(
        capacity=field.initial_cap,
        dimensions=field.dimensions,
        distance_metric=Simple(field.metric or ""),
        size=size,
        data_type=Simple(field.data_type or ""),
        algorithm=_flat(**algorithm),
    )


def _flat(**pairs: Any) -> list[Any]:
    return [x for name, value in pairs.items() for x in (Simple(name), value)]


def _simple(text: bytes) -> Simple:
    return Simple(text.decode("utf-8", "surrogateescape"))
