"""The Responses API as OpenAI gives it, whole and streamed.

Rule of this file: the same answers as in openai_chat.py, in the shape of the other API.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from tests.openai_chat import answer, asked_for_tool, filled, words

_USAGE = {
    "input_tokens": 11,
    "input_tokens_details": {"cached_tokens": 0},
    "output_tokens": 5,
    "output_tokens_details": {"reasoning_tokens": 0},
    "total_tokens": 16,
}


def response(body: dict[str, Any], number: int) -> dict[str, Any]:
    """One answer, the `number`-th in all."""
    return _response(body, number, "completed", [_item(body, number)]) | {"usage": _USAGE}


def response_events(body: dict[str, Any], number: int) -> Iterator[dict[str, Any]]:
    """The same as events, each with its number in the stream."""
    for sequence, event in enumerate(_events(body, number)):
        yield event | {"sequence_number": sequence}


def _events(body: dict[str, Any], number: int) -> Iterator[dict[str, Any]]:
    started = _response(body, number, "in_progress", [])
    yield {"type": "response.created", "response": started}
    yield {"type": "response.in_progress", "response": started}
    item = _item(body, number)
    place = {"output_index": 0, "item_id": item["id"]}
    part = {"content_index": 0} | place
    if item["type"] == "message":
        (content,) = item["content"]
        empty = item | {"content": [], "status": "in_progress"}
        yield {"type": "response.output_item.added", "output_index": 0, "item": empty}
        blank = content | {"text": ""}
        yield {"type": "response.content_part.added", "part": blank} | part
        for word in words(content["text"]):
            yield {"type": "response.output_text.delta", "delta": word, "logprobs": []} | part
        text = content["text"]
        yield {"type": "response.output_text.done", "text": text, "logprobs": []} | part
        yield {"type": "response.content_part.done", "part": content} | part
    else:
        empty = item | {"arguments": "", "status": "in_progress"}
        yield {"type": "response.output_item.added", "output_index": 0, "item": empty}
        for word in words(item["arguments"]):
            yield {"type": "response.function_call_arguments.delta", "delta": word} | place
        arguments = {"name": item["name"], "arguments": item["arguments"]}
        yield {"type": "response.function_call_arguments.done"} | arguments | place
    yield {"type": "response.output_item.done", "output_index": 0, "item": item}
    yield {"type": "response.completed", "response": response(body, number)}


def _item(body: dict[str, Any], number: int) -> dict[str, Any]:
    asked = _asked(body["input"])
    function = asked_for_tool(asked, body.get("tools") or [], body.get("tool_choice"))
    if function is not None:
        return {
            "type": "function_call",
            "id": f"fc_{number}",
            "call_id": f"call_{number}",
            "name": function["name"],
            "arguments": json.dumps(filled(function.get("parameters", {}), str(asked))),
            "status": "completed",
        }
    wanted = (body.get("text") or {}).get("format") or {}
    if wanted.get("type") == "json_schema":
        text = json.dumps(filled(wanted["schema"], str(asked)))
    elif wanted.get("type") == "json_object":
        text = json.dumps({"answer": str(asked), "number": 7})
    else:
        text = answer(body["model"], body.get("temperature"), asked)
    content = {"type": "output_text", "text": text, "annotations": [], "logprobs": []}
    return {
        "type": "message",
        "id": f"msg_{number}",
        "role": "assistant",
        "status": "completed",
        "content": [content],
    }


def _asked(given: Any) -> Any:
    if isinstance(given, str):
        return given
    last = given[-1]
    return last["output"] if last.get("type") == "function_call_output" else last["content"]


def _response(
    body: dict[str, Any], number: int, status: str, output: list[dict[str, Any]]
) -> dict[str, Any]:
    return {
        "id": f"resp_{number}",
        "object": "response",
        "created_at": 1,
        "status": status,
        "model": body["model"],
        "output": output,
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "metadata": {},
        "parallel_tool_calls": True,
        "temperature": 1.0,
        "tool_choice": "auto",
        "tools": [],
        "top_p": 1.0,
        "text": body.get("text") or {"format": {"type": "text"}},
        "usage": None,
    }
