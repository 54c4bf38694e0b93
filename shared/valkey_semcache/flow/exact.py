"""The exact tier: the entry of the very words asked, or of a wording remembered for another.

Rule of this file: one HMGET, no embedding; an alias costs a second.
"""

from __future__ import annotations

from valkey_semcache.errors import ServerReplyError, UnreadableError
from valkey_semcache.flow.entries import Entries, is_rejected
from valkey_semcache.flow.operations import Command, Flow, unless_wrong_type
from valkey_semcache.flow.serving import TOLERANCE, Serving
from valkey_semcache.index.contract import ENTRY_FIELDS
from valkey_semcache.outcome import Hit, Miss
from valkey_semcache.question import Address
from valkey_semcache.stored.answer import ALIAS_CODEC, Envelope, unpack_alias
from valkey_semcache.stored.codec import Codec


class ExactTier:
    """Finds entries by their own key.

    Args:
        entries: Reads them.
        serving: Makes the hits.
        aliases: Whether wordings remembered for another are served.
    """

    def __init__(self, entries: Entries, serving: Serving, *, aliases: bool = True) -> None:
        self._entries = entries
        self._serving = serving
        self._aliases = aliases

    def find(self, address: Address, codec: Codec, threshold: float) -> Flow[Hit | Miss | None]:
        """The hit, or None; a miss for who is to renew the entry."""
        # Nearly every hit of a cache comes by here: what is seldom needed is a flow of its own.
        entries, key = self._entries, address.key
        try:
            (data,) = yield Command("HMGET", key, "p")
        except ServerReplyError as error:
            yield from entries.give_way(key, error)
            return None
        if data is None:
            return None
        try:
            envelope = entries.opened(key, data)
        except UnreadableError as error:
            yield from entries.put_away(key, error)
            return None
        if envelope.codec == ALIAS_CODEC:
            if not self._aliases:
                return None
            return (yield from self._by_alias(address, envelope, codec, threshold))
        return (yield from self._serving.serve("exact", address, key, 1.0, envelope, codec))

    def _by_alias(
        self, address: Address, envelope: Envelope, codec: Codec, threshold: float
    ) -> Flow[Hit | Miss | None]:
        """The answer an alias points to, if that entry still is the one it was made from."""
        try:
            alias = unpack_alias(envelope.content)
        except UnreadableError:
            yield from self._entries.remove_unreadable(address.key)
            return None
        key = address.key[: -len(address.text_digest)] + alias.source
        values = yield from unless_wrong_type(Command("HMGET", key, *ENTRY_FIELDS))
        data, rejected = values or (None, None)
        source = None if data is None else (yield from self._entries.envelope(key, data))
        if (
            source is None
            or source.created != alias.created
            or is_rejected(address, rejected)
            or source.codec == ALIAS_CODEC
        ):
            yield Command("UNLINK", address.key)
            return None
        if alias.similarity < threshold - TOLERANCE:
            return None
        return (
            yield from self._serving.serve("exact", address, key, alias.similarity, source, codec)
        )
