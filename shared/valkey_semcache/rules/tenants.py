"""Which tenant is asking, where the app says so outside of the call.

Rule of this file: what cannot be told, or is told in two ways, is nobody's: it is not cached.
Nothing ever falls back to the default namespace but what names no tenant at all.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from contextlib import AbstractContextManager

from valkey_semcache.blocks import Block
from valkey_semcache.errors import ConfigurationError, UnknownTenantError
from valkey_semcache.options import checked_namespace


class Tenants:
    """The tenant of a request, from a block, a function or a view.

    A view (`with_namespace`) names its own. Around the call a block (`namespace(…)`) names one,
    the innermost if there are several; where there is no block, the function does. The view and
    what is around the call must agree. Where nothing names a tenant it is the default one.

    Args:
        namespace_from: Called without arguments at each look-up and each store outside of a
            block; returns the tenant's name, or None for a request that is not to be cached.

    Raises:
        ConfigurationError: `namespace_from` cannot be called, or has to be awaited.
    """

    def __init__(self, namespace_from: Callable[[], str | None] | None = None) -> None:
        if namespace_from is not None and (
            not callable(namespace_from) or inspect.iscoroutinefunction(namespace_from)
        ):
            raise ConfigurationError(
                f"namespace_from={namespace_from!r} is not allowed: it takes a plain function "
                "without arguments that returns the tenant's name, or None for not cached."
            )
        self._namespace_from = namespace_from
        self._block: Block[str] = Block()

    def block(self, namespace: str) -> AbstractContextManager[None]:
        """Name the tenant of what is called inside a `with` block."""
        return self._block(checked_namespace(namespace))

    def named(self) -> str | None:
        """The tenant that a block or the function names; None if there is neither.

        Raises:
            UnknownTenantError: The function raised, or names none.
        """
        named = self._block.value()
        if named is not None or self._namespace_from is None:
            return named
        try:
            named = self._namespace_from()
        except Exception as error:
            raise UnknownTenantError(
                f"namespace_from= raised {type(error).__name__}, so it is not known whose "
                "request this is"
            ) from error
        if not isinstance(named, str):
            raise UnknownTenantError(
                f"namespace_from= named no tenant, but returned {type(named).__name__}"
            )
        return named

    def named_for(self, view: str | None) -> str | None:
        """The tenant of the request being made, or None if nothing names one.

        Args:
            view: The tenant of the view that is asked, if it is one.

        Raises:
            UnknownTenantError: It cannot be told, or two are named.
        """
        named = self.named()
        if view is not None and named is not None and named != view:
            raise UnknownTenantError(
                "a view made by with_namespace is asked for another tenant's request"
            )
        return named if view is None else view
