"""The two kinds of failure a person sees: wrong input, and work that failed."""

from __future__ import annotations

from collections.abc import Sequence


class UserError(ValueError):
    """Something given by the user is wrong. The text says what was wanted, what came, what to type.

    The command line prints it without a traceback and exits with code 2.
    """


class ConfigError(UserError):
    """All problems of one configuration at once."""

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = list(problems)
        lines = "\n".join(f"  - {problem}" for problem in problems)
        super().__init__(f"{len(problems)} problem(s) in the configuration:\n{lines}")


class WorkError(RuntimeError):
    """The work itself failed (a diverged search, a full disk). The command line exits with code 1."""


class Stopped(Exception):
    """A signal asked for a stop; what was done is saved. The text says how to go on."""


class MissingExtra(UserError):
    """An optional library is not installed."""

    def __init__(self, extra: str, library: str, purpose: str) -> None:
        super().__init__(f"{purpose} needs {library}: pip install 'archgrad[{extra}]'")
