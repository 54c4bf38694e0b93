"""The last step of every look-up that found something: from an envelope to a hit.

Rule of this file: each hit of each tier is made here, with the answer decoded anew, and what
follows a hit (a longer life, a renewal, a copy in this process) is decided here.
"""

from __future__ import annotations

import time

from valkey_semcache.answer import Envelope
from valkey_semcache.codec import Codec
from valkey_semcache.entries import Entries
from valkey_semcache.errors import UnreadableError
from valkey_semcache.operations import Flow
from valkey_semcache.outcome import Hit, Tier
from valkey_semcache.question import Address


class Serving:
    """Makes hits.

    Args:
        entries: Removes what cannot be read.
    """

    def __init__(self, entries: Entries) -> None:
        self._entries = entries

    def serve(
        self,
        tier: Tier,
        address: Address,
        key: str,
        similarity: float,
        envelope: Envelope,
        codec: Codec,
    ) -> Flow[Hit | None]:
        """The hit, or None if another codec wrote the answer, or none can read it.

        Args:
            tier: Where it was found.
            address: The asked question's.
            key: The entry's.
            similarity: Of the two wordings.
            envelope: The entry's.
            codec: Who is to read the answer.
        """
        if envelope.codec != codec.name:
            return None
        try:
            answer = codec.decode(envelope.content)
        except UnreadableError:
            yield from self._entries.remove_unreadable(key)
            return None
        return Hit(
            tier=tier,
            similarity=similarity,
            question=envelope.question,
            answer=answer,
            age=max(0.0, time.time() - envelope.created),
            model=envelope.model,
            usage=envelope.usage or {},
            key=key,
        )
