"""What can break: each fault is a function that breaks something and gives back how to mend it.

A `Site` is a server, a proxy in front of it, and an embedding model that can be told to misbehave.
"""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any, Self

import valkey

from tests.chaos.fleet import ByWords
from tests.chaos.proxy import Manner, Proxy
from tests.standin import PlainValkey, StandIn
from valkey_semcache import SemanticCache

Mend = Callable[[], None]


class Embedder(ByWords):
    """As good as its `manner`: well, or one way of being ill."""

    def __init__(self) -> None:
        self.manner = "well"
        self.hang = threading.Event()

    async def aembed(self, texts: Any) -> Any:
        if self.manner == "hangs":
            await asyncio.sleep(30)
        return self.embed(texts)

    def embed(self, texts: Any) -> Any:
        manner = self.manner
        if manner == "raises":
            raise RuntimeError("no tokens left, said the provider to sk-secret")
        if manner == "hangs":
            self.hang.wait(30)
        vectors = [self.vector(text) for text in texts]
        odd: dict[str, Any] = {
            "nan": [[float("nan")] * 16],
            "infinite": [[float("inf")] * 16],
            "zeros": [[0.0] * 16],
            "other dimension": [[1.0] * 8],
            "empty": [[]],
            "none": None,
            "two": vectors * 2,
        }
        return odd.get(manner, vectors)


class Site:
    """One server with its surroundings.

    Args:
        index: `flat` for a plain Valkey, `search` for a stand-in of valkey-search.
        seed: Of the proxy's dice.
    """

    def __init__(self, index: str, seed: int) -> None:
        self.index = index
        self.embedder = Embedder()
        self._seed = seed
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        # The data is there again after a crash.
        kept = ["--appendonly", "yes", "--appendfsync", "always"]
        self.plain: PlainValkey
        self.standin: StandIn | None = None
        if self.index == "flat":
            self.plain = self._stack.enter_context(PlainValkey(kept))
            port = self.plain.port
        else:
            self.standin = self._stack.enter_context(StandIn("1.2.1"))
            self.plain, port = self.standin.backing, self.standin.port
        self.proxy = self._stack.enter_context(Proxy(port, self._seed))
        self.admin = valkey.Valkey(port=port, socket_timeout=20)
        self._stack.callback(self.admin.close)
        return self

    def __exit__(self, *_: object) -> None:
        self.embedder.hang.set()
        self._stack.close()

    def cache(self, **options: Any) -> SemanticCache:
        """A cache that reaches the server through the proxy."""
        limits = {"timeout": 0.15, "connect_timeout": 0.5, "embed_timeout": 0.15}
        return SemanticCache(
            self.embedder,
            self.proxy.url,
            index=self.index,  # type: ignore[arg-type]
            cluster=False,
            **(limits | options),
        )

    # The faults

    def killed_and_back_with_its_data(self) -> Mend:
        if self.standin is not None:
            self.standin.kill()
            return self.standin.restart
        self.plain.kill()
        return self.plain.restart

    def killed_and_back_without_its_data(self) -> Mend:
        if self.standin is not None:
            self.admin.flushall()
            self.standin.kill()
            return self.standin.restart
        self.admin.flushall()
        self.plain.kill()
        return self.plain.restart

    def paused(self) -> Mend:
        os.kill(self.plain.pid, signal.SIGSTOP)
        return lambda: os.kill(self.plain.pid, signal.SIGCONT)

    def replies_cut(self) -> Mend:
        return self._proxied("cut")

    def replies_late(self) -> Mend:
        return self._proxied("delay", 1.0)

    def replies_dripping(self) -> Mend:
        return self._proxied("drip", 0.02)

    def replies_garbage(self) -> Mend:
        return self._proxied("garbage")

    def no_replies(self) -> Mend:
        return self._proxied("silent")

    def flushed(self) -> Mend:
        self.admin.flushall()
        return lambda: None

    def index_dropped(self) -> Mend:
        if self.standin is not None:
            for name in self.standin.indexes():
                self.standin.drop_index(name)
        else:  # of the flat index, its logs
            for key in self.admin.scan_iter("*:log:*"):
                self.admin.unlink(key)
        return lambda: None

    def memory_full(self) -> Mend:
        return self._memory("noeviction")

    def memory_full_evicting(self) -> Mend:
        return self._memory("allkeys-lru")

    def connections_killed(self) -> Mend:
        self.admin.client_kill_filter(_type="normal", skipme=True)
        return lambda: None

    def read_only_replica(self) -> Mend:
        self.admin.execute_command("REPLICAOF", "127.0.0.1", "1")
        return lambda: self.admin.execute_command("REPLICAOF", "NO", "ONE")

    def clock_ahead(self) -> Mend:
        return self._clock(86_400.0)

    def clock_behind(self) -> Mend:
        return self._clock(-86_400.0)

    def embedder_raises(self) -> Mend:
        return self._embedder("raises")

    def embedder_hangs(self) -> Mend:
        mend = self._embedder("hangs")

        def wake() -> None:
            mend()
            self.embedder.hang.set()
            self.embedder.hang = threading.Event()

        return wake

    def embedder_gives_nan(self) -> Mend:
        return self._embedder("nan")

    def embedder_gives_infinities(self) -> Mend:
        return self._embedder("infinite")

    def embedder_gives_zeros(self) -> Mend:
        return self._embedder("zeros")

    def embedder_gives_another_dimension(self) -> Mend:
        return self._embedder("other dimension")

    def embedder_gives_an_empty_vector(self) -> Mend:
        return self._embedder("empty")

    def embedder_gives_none(self) -> Mend:
        return self._embedder("none")

    def embedder_gives_two(self) -> Mend:
        return self._embedder("two")

    def _proxied(self, manner: Manner, seconds: float = 0.0) -> Mend:
        self.proxy.seconds = seconds
        self.proxy.manner = manner

        def mend() -> None:
            self.proxy.manner = "well"
            if manner in ("delay", "drip", "silent"):
                self.proxy.hang_up()  # replies that are late belong to nobody any more

        return mend

    def _memory(self, policy: str) -> Mend:
        info: Any = self.admin.info("memory")
        self.admin.config_set("maxmemory-policy", policy)
        self.admin.config_set("maxmemory", max(1, int(info["used_memory"]) - 50_000))
        return lambda: self.admin.config_set("maxmemory", 0)

    def _embedder(self, manner: str) -> Mend:
        self.embedder.manner = manner
        return lambda: setattr(self.embedder, "manner", "well")

    def _clock(self, seconds: float) -> Mend:
        real = time.time
        time.time = lambda: real() + seconds
        return lambda: setattr(time, "time", real)


FAULTS: dict[str, Callable[[Site], Mend]] = {
    name: function
    for name, function in vars(Site).items()
    if callable(function) and not name.startswith("_") and name != "cache"
}
