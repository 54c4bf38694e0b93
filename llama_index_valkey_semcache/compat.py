"""What differs between the releases of llama-index-core that are supported.

Rule of this file: a release is told by what it has, never by its number; nobody else asks.
"""

from __future__ import annotations

from typing import Any

from llama_index.core.base.llms import types

THINKING: tuple[type[Any], ...] = tuple(
    kind for name in ("ThinkingBlock",) if (kind := getattr(types, name, None)) is not None
)
"""The block of a model's reasoning, for `isinstance`; empty where there is none (0.12)."""

TOOL_CALL: tuple[type[Any], ...] = tuple(
    kind for name in ("ToolCallBlock",) if (kind := getattr(types, name, None)) is not None
)
"""The block of a tool call, likewise."""
