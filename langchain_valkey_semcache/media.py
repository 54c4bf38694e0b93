"""Images, audio, video and files in a message, by their content.

Rule of this file: the same content gives the same value in whatever form LangChain and the
providers have for it, other content gives another; a form that is not known stays as it is.
"""

from __future__ import annotations

import base64
import hashlib
from typing import Any

_KINDS = frozenset(("image", "audio", "video", "file"))
_PLACE = frozenset(("id", "index"))  # of a block in its message; no part of what it shows
_DATA_KEYS = frozenset(("data", "base64", "file_data"))
_SHORT = 64  # characters; shorter data is as well compared as it is


def canonical_media(block: dict[str, Any]) -> list[Any] | None:
    """A block of media as kind, MIME type, content and what else it says; None for other blocks.

    Content is the digest of the data, a URL, or the name of a file that the provider keeps. A
    list, so that no block that somebody writes can look like it.
    """
    kind = block.get("type")
    if kind == "image_url":
        return _of_url("image", _part(block, "image_url", "url"), _beside(block, "image_url"))
    if kind == "input_audio":
        inner = block.get("input_audio")
        if isinstance(inner, dict) and isinstance(inner.get("data"), str):
            rest = _beside(block, "input_audio", "data", "format")
            return _of_data("audio", f"audio/{inner.get('format')}", inner["data"], rest)
        return None
    if kind not in _KINDS:
        return None
    if isinstance(block.get("file"), dict):
        return _of_openai_file(block)
    if isinstance(block.get("source"), dict):
        return _of_anthropic(block)
    return _of_langchain(block)


def digested(value: Any) -> Any:
    """Any other block's value, with base64 data and data URLs in it replaced by digests."""
    if isinstance(value, dict):
        return {
            name: ["data", *_digest(part)]
            if name in _DATA_KEYS and isinstance(part, str) and len(part) > _SHORT
            else digested(part)
            for name, part in value.items()
        }
    if isinstance(value, list):
        return [digested(part) for part in value]
    if isinstance(value, str) and len(value) > _SHORT and value.startswith("data:"):
        head, _, data = value.partition(",")
        return ["data", head, *_digest(data)]
    return value


def _of_langchain(block: dict[str, Any]) -> list[Any] | None:
    """LangChain's own two forms: standard content blocks, and those with a `source_type`."""
    kind, mime, source = block["type"], block.get("mime_type"), block.get("source_type")
    if source == "base64" or "base64" in block:
        name = "data" if source == "base64" else "base64"
        data = block.get(name)
        rest = _rest(block, name, "mime_type", "source_type")
        return _of_data(kind, mime, data, rest) if isinstance(data, str) else None
    if isinstance(block.get("url"), str):
        return _of_url(kind, block["url"], _rest(block, "url", "mime_type", "source_type"), mime)
    name = "id" if source == "id" else "file_id"
    if isinstance(block.get(name), str):
        rest = _rest(block, name, "mime_type", "source_type")
        return ["media", kind, mime, "file_id", block[name], rest]
    return None


def _of_openai_file(block: dict[str, Any]) -> list[Any] | None:
    inner = block["file"]
    if isinstance(inner.get("file_data"), str):
        rest = _beside(block, "file", "file_data")
        return _of_url("file", inner["file_data"], rest)
    if isinstance(inner.get("file_id"), str):
        return ["media", "file", None, "file_id", inner["file_id"], _beside(block, "file")]
    return None


def _of_anthropic(block: dict[str, Any]) -> list[Any] | None:
    kind, inner = block["type"], block["source"]
    rest = _rest(block, "source")
    if isinstance(inner.get("data"), str) and inner.get("type") == "base64":
        return _of_data(kind, inner.get("media_type"), inner["data"], rest)
    if isinstance(inner.get("url"), str):
        return _of_url(kind, inner["url"], rest)
    if isinstance(inner.get("file_id"), str):
        return ["media", kind, None, "file_id", inner["file_id"], rest]
    return None


def _of_url(kind: str, url: Any, rest: dict[str, Any], mime: str | None = None) -> list[Any] | None:
    if not isinstance(url, str):
        return None
    head, comma, data = url.partition(",")
    if comma and head.startswith("data:") and head.endswith(";base64"):
        return _of_data(kind, head[5:-7], data, rest)
    if url.startswith("data:"):
        return None
    # What lies behind a URL cannot be seen from here; the URL is the content's name.
    return ["media", kind, mime, "url", url, rest]


def _of_data(kind: str, mime: Any, data: str, rest: dict[str, Any]) -> list[Any]:
    return ["media", kind, mime, *_digest(data), rest]


def _digest(data: str) -> tuple[str, str]:
    """SHA-256 of what base64 text stands for; of the text where it is none."""
    try:
        return "sha256", hashlib.sha256(base64.b64decode(data, validate=True)).hexdigest()
    except ValueError:
        return "sha256 of text", hashlib.sha256(data.encode("utf-8", "surrogatepass")).hexdigest()


def _part(block: dict[str, Any], name: str, inner: str) -> Any:
    """`block[name]`, or `block[name][inner]` where that is a mapping."""
    part = block.get(name)
    return part.get(inner) if isinstance(part, dict) else part


def _rest(block: dict[str, Any], *known: str) -> dict[str, Any]:
    """What a block says beside the known parts. `extras` is LangChain's place for such."""
    rest = {n: v for n, v in block.items() if n not in known and n not in _PLACE and n != "type"}
    extras = rest.pop("extras", None)
    return {**extras, **rest} if isinstance(extras, dict) else rest


def _beside(block: dict[str, Any], name: str, *known: str) -> dict[str, Any]:
    """The same for a block that holds its parts in a mapping of its own."""
    inner = block.get(name)
    rest = _rest(block, name)
    if isinstance(inner, dict):
        rest |= {n: v for n, v in inner.items() if n not in known and n not in ("url", "file_id")}
    return rest
