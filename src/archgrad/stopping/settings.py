"""The section ``stopping`` of the configuration."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from archgrad.config_section import Section


class Stopping(Section):
    """Rules that end a search or act on it, as long as it runs.

    rules: rule -> its settings, and `action`, what is done when it fires: a name, or a name with settings.
    combine: any one of them, all of them at once, or none, which switches them off.
    """

    combine: Literal["any", "all", "none"] = "any"
    rules: dict[str, dict[str, Any]] = Field(default_factory=dict)
