"""archgrad: differentiable neural architecture search on PyTorch.

Public names are imported when first used, so ``import archgrad`` does no work.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_PUBLIC = {
    "Architecture": "archgrad.architecture",
    "Choice": "archgrad.choice",
    "Sample": "archgrad.choice",
    "Supernet": "archgrad.choice",
    "concrete": "archgrad.choice",
    "supernet": "archgrad.choice",
    "inherit": "archgrad.inheritance",
    "Space": "archgrad.spaces.space",
    "load": "archgrad.datasets.loading",
    "from_torch": "archgrad.datasets.loading",
    "search_run": "archgrad.verbs",
    "derive_run": "archgrad.verbs",
    "train_run": "archgrad.verbs",
    "export_run": "archgrad.verbs",
    "report_run": "archgrad.verbs",
    "UserError": "archgrad.errors",
    "WorkError": "archgrad.errors",
}

__all__ = ["__version__", *_PUBLIC]

if TYPE_CHECKING:
    from archgrad.architecture import Architecture as Architecture
    from archgrad.choice import Choice as Choice
    from archgrad.choice import Sample as Sample
    from archgrad.choice import Supernet as Supernet
    from archgrad.choice import concrete as concrete
    from archgrad.choice import supernet as supernet
    from archgrad.errors import UserError as UserError
    from archgrad.errors import WorkError as WorkError
    from archgrad.inheritance import inherit as inherit
    from archgrad.spaces.space import Space as Space


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'archgrad' has no attribute {name!r}; it has {', '.join(__all__)}")
    return getattr(importlib.import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return __all__
