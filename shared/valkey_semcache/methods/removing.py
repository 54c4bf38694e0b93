"""The methods that take answers out again.

Rule of this file: whoever calls one of these must know that it did not happen, so they raise.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from valkey_semcache.at_first_use import at_first_use
from valkey_semcache.errors import ConfigurationError
from valkey_semcache.flow.operations import Flow
from valkey_semcache.methods.core import Core
from valkey_semcache.outcome import Hit
from valkey_semcache.question import Question

if TYPE_CHECKING:
    from valkey_semcache.flow import clear as clearing
else:
    clearing = at_first_use("valkey_semcache.flow.clear")


class Removing(Core):
    """Deletes, rejects and clears."""

    def delete(self, question: Question | str) -> bool:
        """Remove the answer stored for just these words; whether there was one.

        Raises:
            ServerError: Valkey could not be reached or refused.
        """
        return self._drive.run(self._flows.delete(self._address(question)))

    async def adelete(self, question: Question | str) -> bool:
        """The same as `delete`, without blocking the event loop."""
        return await self._drive.arun(self._flows.delete(self._address(question)))

    def reject(self, hit: Hit) -> bool:
        """Never again serve this entry for the question that it was served for.

        The entry's own question still hits it, and so do other wordings. It counts as long as
        the entry lives, also when its answer is replaced. A hit by the very words has no other
        question to reject it for: the entry is deleted.

        Args:
            hit: What `lookup` returned, of this cache or of another process's.

        Returns:
            Whether the entry was still there.

        Raises:
            ConfigurationError: It is no hit of a cache with this name and embedding model.
            ServerError: Valkey could not be reached or refused.
        """
        return self._drive.run(self._reject(hit))

    async def areject(self, hit: Hit) -> bool:
        """The same as `reject`, without blocking the event loop."""
        return await self._drive.arun(self._reject(hit))

    def clear(
        self, *, namespace: str | None = None, identity: str | None = None, model: str | None = None
    ) -> int:
        """Remove entries of this cache's name; with arguments, only those that match them all.

        Without arguments the indexes go too, and come back at the next use. Other keys in
        the server are never touched. A view made by `with_namespace` clears its own tenant's
        entries, unless another is named.

        Args:
            namespace: Only this tenant's.
            identity: Only those of this model with these parameters (`llm_string`).
            model: Only those of this model's name.

        Returns:
            How many entries were removed.

        Raises:
            ServerError: Valkey could not be reached or refused. Some entries may be left.
        """
        flow = self._clear(namespace, identity, model)
        try:
            return self._drive.run(flow)
        finally:
            self._flows.forget()

    async def aclear(
        self, *, namespace: str | None = None, identity: str | None = None, model: str | None = None
    ) -> int:
        """The same as `clear`, without blocking the event loop."""
        flow = self._clear(namespace, identity, model)
        try:
            return await self._drive.arun(flow)
        finally:
            self._flows.forget()

    def _reject(self, hit: Hit) -> Flow[bool]:
        own = isinstance(hit, Hit) and hit.key.startswith(self._addressing.prefix)
        if not own or not hit.asked.startswith(self._addressing.prefix):
            raise ConfigurationError(
                "reject() takes a Hit that lookup() of this cache has returned, not "
                f"{type(hit).__name__ if not isinstance(hit, Hit) else 'one of another cache'}."
            )
        return self._flows.reject(hit)

    def _clear(self, namespace: str | None, identity: str | None, model: str | None) -> Flow[int]:
        namespace = self._view if namespace is None else namespace
        wanted = {"n": ("namespace", namespace), "i": ("identity", identity), "m": ("model", model)}
        digests = {
            field: self._digests(label, value)
            for field, (label, value) in wanted.items()
            if value is not None
        }
        if digests:
            return clearing.clear_matching(self._name, digests)
        return clearing.clear_all(self._name, self._embedding)
