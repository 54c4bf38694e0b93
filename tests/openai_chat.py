"""Chat completions as OpenAI's API gives them, whole and streamed.

Rule of this file: an answer names what was asked. A call for a tool, an object of a schema or a cut
answer is given when the request says so.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

USAGE = {"prompt_tokens": 11, "completion_tokens": 5, "total_tokens": 16}


def answer(model: str, temperature: Any, asked: Any) -> str:
    """The text of an answer; a model called `says-yes` says yes."""
    if model.startswith("says-"):
        return model.removeprefix("says-")
    return f"{model} at {temperature} on: {asked}"


def asked_for_tool(asked: Any, tools: list[dict[str, Any]], choice: Any) -> dict[str, Any] | None:
    """The function that is to be called, if one is: by name, or if the question says so."""
    functions = [tool.get("function", tool) for tool in tools]
    if isinstance(choice, dict):
        name = choice.get("function", choice).get("name")
        return next(function for function in functions if function["name"] == name)
    if functions and (choice in ("required", "any") or "use the tool" in str(asked)):
        return functions[0]
    return None


def filled(schema: dict[str, Any], text: str) -> dict[str, Any]:
    """An object that fits a schema: strings are the text, numbers are 7."""
    values = {"string": text, "integer": 7, "number": 7, "boolean": True, "array": []}
    properties = schema.get("properties", {})
    return {name: values.get(kind.get("type"), text) for name, kind in properties.items()}


def completion(body: dict[str, Any], number: int) -> dict[str, Any]:
    """`n` answers, the `number`-th in all."""
    choices = []
    for index in range(body.get("n") or 1):
        message, reason = _message(body, number, index)
        choice = {"index": index, "message": message, "finish_reason": reason, "logprobs": None}
        choices.append(choice)
    head = _head(body, number, "chat.completion")
    return head | {"choices": choices, "usage": USAGE}


def completion_chunks(body: dict[str, Any], number: int) -> Iterator[dict[str, Any]]:
    """The same in chunks: a role, words, a reason to finish, and the usage if it is asked for."""
    head = _head(body, number, "chat.completion.chunk")
    reasons = []
    for index in range(body.get("n") or 1):
        message, reason = _message(body, number, index)
        reasons.append(reason)
        yield head | {"choices": [_delta(index, {"role": "assistant", "content": ""})]}
        for call_index, call in enumerate(message.get("tool_calls") or ()):
            first = call | {"function": call["function"] | {"arguments": ""}, "index": call_index}
            yield head | {"choices": [_delta(index, {"tool_calls": [first]})]}
            for piece in words(call["function"]["arguments"]):
                more = {"index": call_index, "function": {"arguments": piece}}
                yield head | {"choices": [_delta(index, {"tool_calls": [more]})]}
        for word in words(message["content"] or ""):
            yield head | {"choices": [_delta(index, {"content": word})]}
    for index, reason in enumerate(reasons):
        yield head | {"choices": [_delta(index, {}, reason)]}
    if (body.get("stream_options") or {}).get("include_usage"):
        yield head | {"choices": [], "usage": USAGE}


def words(text: str) -> list[str]:
    """A text in pieces, blanks at their ends."""
    return re.findall(r"\S+\s*|\s+", text)


def _message(body: dict[str, Any], number: int, index: int) -> tuple[dict[str, Any], str]:
    asked = body["messages"][-1]["content"]
    message: dict[str, Any] = {"role": "assistant", "content": None, "refusal": None}
    function = asked_for_tool(asked, body.get("tools") or [], body.get("tool_choice"))
    if function is not None:
        arguments = json.dumps(filled(function.get("parameters", {}), str(asked)))
        call = {"name": function["name"], "arguments": arguments}
        message["tool_calls"] = [{"id": f"call_{number}", "type": "function", "function": call}]
        return message, "tool_calls"
    wanted = body.get("response_format") or {}
    if wanted.get("type") == "json_schema":
        message["content"] = json.dumps(filled(wanted["json_schema"]["schema"], str(asked)))
    elif wanted.get("type") == "json_object":
        message["content"] = json.dumps({"answer": str(asked), "number": 7})
    else:
        text = answer(body["model"], body.get("temperature"), asked)
        message["content"] = text if index == 0 else f"{text} ({index})"
    return message, "length" if "cut off" in str(asked) else "stop"


def _head(body: dict[str, Any], number: int, kind: str) -> dict[str, Any]:
    return {"id": f"chatcmpl-{number}", "object": kind, "created": 1, "model": body["model"]}


def _delta(index: int, delta: dict[str, Any], reason: str | None = None) -> dict[str, Any]:
    return {"index": index, "delta": delta, "finish_reason": reason, "logprobs": None}
