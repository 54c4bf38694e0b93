"""An OpenAI-compatible server on loopback, for the real `langchain-openai` clients.

Rule of this file: it answers from what it is asked, so that a test can tell which request an
answer belongs to, and counts every call.
"""

from __future__ import annotations

import base64
import json
import struct
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from tests.embedders import hashed


class OpenAIServer:
    """Chat completions and embeddings. `chats` and `embeddings` hold the requests' bodies."""

    def __init__(self) -> None:
        self.chats: list[dict[str, Any]] = []
        self.embeddings: list[dict[str, Any]] = []
        owner = self

        class Handler(BaseHTTPRequestHandler):
            # HTTP/1.0, a connection for each request: langchain-openai shares its HTTP client
            # among event loops, and a kept connection belongs to the loop that opened it.

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                if self.path == "/v1/chat/completions":
                    owner.chats.append(body)
                    reply = completion(body)
                elif self.path == "/v1/embeddings":
                    owner.embeddings.append(body)
                    reply = embedding(body)
                else:
                    self.send_error(404)
                    return
                data = json.dumps(reply).encode()
                self.send_response(200)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}/v1"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def completion(body: dict[str, Any]) -> dict[str, Any]:
    """`n` answers that name model, temperature and last message; or a tool call if it says so."""
    asked = body["messages"][-1]["content"]
    message: dict[str, Any] = {"role": "assistant", "content": None, "refusal": None}
    reason = "stop"
    if body.get("tools") and "use the tool" in str(asked):
        function = {"name": body["tools"][0]["function"]["name"], "arguments": '{"a": 1}'}
        message["tool_calls"] = [{"id": "call_1", "type": "function", "function": function}]
        reason = "tool_calls"
    else:
        message["content"] = f"{body['model']} at {body.get('temperature')} on: {asked}"
        reason = "length" if "cut off" in str(asked) else reason
    choices = [
        {"index": index, "message": message, "finish_reason": reason, "logprobs": None}
        for index in range(body.get("n") or 1)
    ]
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": body["model"],
        "choices": choices,
        "usage": {"prompt_tokens": 11, "completion_tokens": 5, "total_tokens": 16},
    }


def embedding(body: dict[str, Any]) -> dict[str, Any]:
    """One hashed vector a text; texts may come as token numbers."""
    texts = body["input"] if isinstance(body["input"], list) else [body["input"]]
    data = []
    for index, text in enumerate(texts):
        words = text if isinstance(text, str) else " ".join(map(str, text))
        vector: Any = hashed(words)
        if body.get("encoding_format") == "base64":
            vector = base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
        data.append({"object": "embedding", "index": index, "embedding": vector})
    return {
        "object": "list",
        "data": data,
        "model": body["model"],
        "usage": {"prompt_tokens": 1, "total_tokens": 1},
    }
