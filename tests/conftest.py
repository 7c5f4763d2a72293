"""Fixtures that all tests share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of the real data sets: ARCHGRAD_DATA, or ../shared/data beside the repository."""
    default = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("ARCHGRAD_DATA", default))
    if not folder.is_dir():
        pytest.skip(f"no data folder at {folder}; set ARCHGRAD_DATA")
    return folder
