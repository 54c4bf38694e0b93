"""An OpenAI-compatible server on loopback, for the real clients.

Rule of this file: HTTP, counting, and misbehaving on demand. What is answered is in
openai_chat.py and openai_responses.py, and depends on the request alone, so that a test can tell
which request an answer belongs to.
"""

from __future__ import annotations

import base64
import json
import struct
import threading
import time
from collections import deque
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal, Self

from tests.embedders import hashed
from tests.openai_chat import completion, completion_chunks
from tests.openai_responses import response, response_events


class OpenAIServer:
    """Chat completions, responses and embeddings; their requests' bodies are kept by these names.

    `gate` holds back every answer while it is clear, `middle` the rest of every stream after its
    first words. What is put into `failures` befalls the next calls of a model, one each: `"500"`
    answers so; in a stream, after its first words, `"break"` breaks the connection, `"error"`
    sends OpenAI's error event, and `"cut"` ends it as if that were all. `delay` is waited before
    each answer, in seconds.
    """

    def __init__(self) -> None:
        self.chats: list[dict[str, Any]] = []
        self.responses: list[dict[str, Any]] = []
        self.embeddings: list[dict[str, Any]] = []
        self.failures: deque[Literal["500", "break", "error", "cut"]] = deque()
        self.delay = 0.0
        self.gate = threading.Event()
        self.middle = threading.Event()
        self.reset()
        self._server = ThreadingHTTPServer(
            ("127.0.0.1", 0), type("Bound", (_Handler,), {"at": self})
        )
        self._server.daemon_threads = True
        self._server.block_on_close = False
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    @property
    def url(self) -> str:
        """What a client takes as `base_url`."""
        return f"http://127.0.0.1:{self._server.server_address[1]}/v1"

    @property
    def calls(self) -> int:
        """Calls of a model, by either API."""
        return len(self.chats) + len(self.responses)

    def reset(self) -> None:
        """Forget all requests, and behave."""
        for kept in (self.chats, self.responses, self.embeddings, self.failures):
            kept.clear()
        self.delay = 0.0
        self.gate.set()
        self.middle.set()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.reset()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Handler(BaseHTTPRequestHandler):
    # A connection for each request: langchain-openai shares its HTTP client among event loops,
    # and a kept connection belongs to the loop that opened it.
    protocol_version = "HTTP/1.1"
    at: OpenAIServer

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        kept = getattr(self.at, self.path.rpartition("/")[2].replace("completions", "chats"), None)
        if not isinstance(kept, list):
            self.send_error(404)
            return
        kept.append(body)
        if kept is self.at.embeddings:
            self._send(embedding(body))
            return
        failure = self.at.failures.popleft() if self.at.failures else None
        time.sleep(self.at.delay)
        assert self.at.gate.wait(20)
        number = self.at.calls
        if failure == "500":
            self._send({"error": {"message": "planted failure", "type": "server_error"}}, 500)
        elif not body.get("stream"):
            answer = completion if kept is self.at.chats else response
            self._send(answer(body, number))
        elif kept is self.at.chats:
            events = (("", chunk) for chunk in completion_chunks(body, number))
            self._stream(events, failure, b"data: [DONE]\n\n")
        else:
            named = ((event["type"], event) for event in response_events(body, number))
            self._stream(named, failure, b"")

    def _send(self, reply: dict[str, Any], status: int = 200) -> None:
        data = json.dumps(reply).encode()
        self._head(status, "application/json", ("content-length", str(len(data))))
        self.wfile.write(data)

    def _stream(
        self, events: Iterator[tuple[str, dict[str, Any]]], failure: str | None, end: bytes
    ) -> None:
        self._head(200, "text/event-stream", ("transfer-encoding", "chunked"))
        try:
            for number, (name, event) in enumerate(events):
                if number == 6:
                    assert self.at.middle.wait(20)
                    if failure == "error":
                        self._chunk(b'data: {"error": {"message": "planted failure"}}\n\n')
                    if failure == "cut":
                        self._chunk(b"")
                    if failure:
                        return
                head = f"event: {name}\n" if name else ""
                self._chunk(f"{head}data: {json.dumps(event)}\n\n".encode())
            if end:
                self._chunk(end)
            self._chunk(b"")
        except OSError:
            pass  # the client left, which is what some tests are about

    def _chunk(self, data: bytes) -> None:
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        self.wfile.flush()

    def _head(self, status: int, kind: str, framing: tuple[str, str]) -> None:
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header(*framing)
        self.send_header("connection", "close")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        pass


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
