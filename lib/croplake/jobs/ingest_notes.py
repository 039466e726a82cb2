"""What each file has left in the catalog: told by the commits themselves."""

from __future__ import annotations

import hashlib
from typing import Any, Final

from croplake import tables as t
from croplake.jobs.context import JobContext
from croplake.tables import Table

ALL: Final = "all"
"""Of a table that is replaced as a whole, in place of a subset."""
_LANDED: Final = "landed"


def state_of(*contents: str) -> str:
    """What tells whether the same rows would come of these contents."""
    return hashlib.sha256("\0".join(contents).encode()).hexdigest()


def landed(context: JobContext) -> dict[tuple[str, str], str]:
    """What completed runs have left in each table and subset (or `ALL`), by its state."""
    if not context.lake.exists(t.RUNS):
        return {}
    runs = context.lake.reader.dataset(t.RUNS.name).to_table([t.RUN_ID, t.OUTCOME]).to_pylist()
    done = {row[t.RUN_ID] for row in runs if row[t.OUTCOME] == t.DONE}
    return {
        (table.name, subset): state if run_id in done else ""
        for table in (t.PHOTOS, t.BOXES, t.CLASSES)
        for subset, (state, run_id) in _noted(context, table).items()
    }


def _noted(context: JobContext, table: Table) -> dict[str, list[str]]:
    """What the last commit of this job tells of each subset: its state, and the run it is of.

    One commit tells of all, so that it does not matter how many of the log are left.
    """
    notes = context.lake.reader.notes(table.name) if context.lake.exists(table) else []
    return dict(notes[0].get(_LANDED, {})) if notes else {}


def note(context: JobContext, table: Table, part: str, state: str) -> dict[str, Any]:
    """What a commit is to tell, that replaces a subset or `ALL`."""
    return {_LANDED: _noted(context, table) | {part: [state, context.run_id]}}
