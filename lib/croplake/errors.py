"""What a job can end with: one exception per exit code an orchestrator acts on.

Exit codes: 0 done, 2 bad arguments or settings, 3 incomplete but resumable, 4 bad input data,
5 table held by another writer. Anything else that escapes is a defect and leaves a traceback.
"""

from __future__ import annotations

from typing import ClassVar


class CroplakeError(Exception):
    """An end that the user can act on; its text says where, what was found and the way out."""

    exit_code: ClassVar[int] = 1


class SettingsError(CroplakeError):
    """Arguments, settings or a dataset spec that cannot be run."""

    exit_code = 2


class IncompleteError(CroplakeError):
    """The run stopped before its end; the same command goes on from there."""

    exit_code = 3


class InputDataError(CroplakeError):
    """A file or table that was read is not what it should be."""

    exit_code = 4


class TableHeldError(CroplakeError):
    """Another writer holds the table's lock."""

    exit_code = 5
