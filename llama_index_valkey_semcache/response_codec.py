"""Query engines' responses with their source nodes as JSON: `li-response/1`.

Rule of this file: fields are named here, and only they are written and read. Nodes go by the
docstore's own JSON, and only those that come back from it as they were; the class of a
structured answer comes from the engine, never from the stored bytes.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any, TypeAlias

from llama_index.core.base.base_selector import MultiSelection, SingleSelection
from llama_index.core.base.response.schema import (
    PydanticResponse,
    Response,
    StreamingResponse,
)
from llama_index.core.constants import DATA_KEY
from llama_index.core.schema import BaseNode, NodeWithScore
from llama_index.core.storage.docstore.utils import doc_to_json, json_to_doc
from pydantic import BaseModel

from llama_index_valkey_semcache.codec import OutputCodec
from llama_index_valkey_semcache.stream import played
from valkey_semcache.errors import NotStorableError, UnreadableError

_KINDS = frozenset(("TextNode", "IndexNode", "ImageNode", "Node", "Document"))

Kept: TypeAlias = Response | PydanticResponse | StreamingResponse
"""What is stored; of a stream the text lies in `response_txt`."""


class ResponseCodec:
    """A response of any kind with its source nodes and metadata.

    Args:
        output_cls: The class of the engine's structured answers, or None if it gives texts.
    """

    name = "li-response/1"

    def __init__(self, output_cls: type[BaseModel] | None = None) -> None:
        self._output = None if output_cls is None else OutputCodec(output_cls)

    def encode(self, answer: Kept) -> bytes:
        """The response as JSON.

        Raises:
            NotStorableError: It would not come back as it is.
        """
        written = {
            **self._answer(answer),
            "nodes": nodes_to_json(answer.source_nodes),
            **_metadata(answer.metadata),
        }
        return json.dumps(written, separators=(",", ":")).encode()

    def decode(self, content: bytes) -> Kept:
        """A new response; of a stream, one that is to be read.

        Raises:
            UnreadableError: The bytes are not what `encode` writes, or hold an object where
                the engine gives texts.
        """
        try:
            stored = json.loads(content)
            nodes, metadata = nodes_from_json(stored["nodes"]), _read_metadata(stored)
            if isinstance(stored.get("text"), str):
                return Response(stored["text"], nodes, metadata)
            if isinstance(stored.get("stream"), str):
                return StreamingResponse(played(stored["stream"]), nodes, metadata)
            if self._output is not None and isinstance(stored.get("object"), str):
                structured = self._output.decode(stored["object"].encode())
                return PydanticResponse(structured, nodes, metadata)
        except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
            raise UnreadableError("The stored response is damaged.") from error
        raise UnreadableError("The stored response holds no answer of this engine's kind.")

    def _answer(self, answer: Kept) -> dict[str, str]:
        if isinstance(answer, StreamingResponse):
            return {"stream": answer.response_txt or ""}
        response = answer.response
        if isinstance(response, str):
            return {"text": response}
        if isinstance(response, BaseModel):
            if self._output is None:
                raise NotStorableError(
                    f"the engine does not say that its answers are a {type(response).__name__}"
                )
            return {"object": self._output.encode(response).decode()}
        raise NotStorableError(f"its answer is of type {type(response).__name__}")


def nodes_to_json(nodes: Sequence[NodeWithScore]) -> list[Any]:
    """Source nodes as the docstore writes them, each with its score.

    Raises:
        NotStorableError: One would come back as another, or not at all.
    """
    return [_node(scored) for scored in nodes]


def nodes_from_json(written: Any) -> list[NodeWithScore]:
    """What `nodes_to_json` wrote, as new objects.

    Raises:
        ValueError: It is not what that writes; or a `TypeError`, `LookupError` or
            `AttributeError`.
    """
    # Not by NodeWithScore's own JSON: its validation fails on the abstract class of a node.
    return [NodeWithScore(node=_read(node), score=score) for node, score in written]


def _node(scored: NodeWithScore) -> list[Any]:
    node, score = scored.node, scored.score
    kind = type(node).__name__
    if type(scored) is not NodeWithScore:
        raise NotStorableError(f"a source node is of type {type(scored).__name__}")
    if score is not None and not math.isfinite(score):
        raise NotStorableError(f"a source node's score is {score}")
    try:
        written = doc_to_json(node)
        back = _read(json.loads(json.dumps(written)))
    except Exception as error:
        raise NotStorableError(
            f"a source node, {kind}, cannot be written as JSON: {error}"
        ) from error
    if type(back) is not type(node) or back != node:
        raise NotStorableError(f"a source node, {kind}, does not come back from JSON as it was")
    return [written, None if score is None else float(score)]


def _read(written: Any) -> BaseNode:
    """A node out of the docstore's JSON, of a kind that is built of its fields alone."""
    _check_kind(written)
    return json_to_doc(written)


def _check_kind(written: Any) -> None:
    """Let through only kinds whose making reads no file and opens no URL.

    Making an `ImageDocument` does both, so bytes in Valkey could have this process do so.
    """
    data = written[DATA_KEY]
    if data["class_name"] not in _KINDS or "extra_info" in data:
        raise ValueError(f"a node of the kind {data['class_name']!r} is not built from JSON")
    if data.get("obj") is not None:
        _check_kind(data["obj"])


def _metadata(metadata: dict[str, Any] | None) -> dict[str, Any]:
    """A response's metadata, and apart from it the choices that a router notes there."""
    plain = metadata
    chosen: dict[str, list[list[Any]]] = {}
    if metadata is not None:
        for name, value in metadata.items():
            if type(value) is MultiSelection:
                chosen[name] = [[one.index, one.reason] for one in value.selections]
        plain = {name: value for name, value in metadata.items() if name not in chosen}
    try:
        same = json.loads(json.dumps(plain)) == plain
    except (TypeError, ValueError, RecursionError) as error:
        raise NotStorableError(f"its metadata cannot be written as JSON: {error}") from error
    if not same:
        raise NotStorableError("its metadata does not come back from JSON as it was")
    return {"metadata": plain, "chosen": chosen} if chosen else {"metadata": plain}


def _read_metadata(stored: dict[str, Any]) -> dict[str, Any] | None:
    metadata = stored["metadata"]
    if not isinstance(metadata, dict | None):
        raise UnreadableError("The stored response's metadata is no mapping.")
    for name, choices in stored.get("chosen", {}).items():
        selections = [SingleSelection(index=index, reason=reason) for index, reason in choices]
        metadata[name] = MultiSelection(selections=selections)  # type: ignore[index]
    return metadata
