"""One writer per table: exclusive locks that die with their holder, and who holds which.

Callers know `writing` and `holders` alone; what a lock is on a kind of storage is behind `Locks`.
On file systems it is `flock`, which the kernel drops when the holder ends, however it ends.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Final, Protocol

from croplake import storage
from croplake.errors import TableHeldError

_RUN: Final = "run "
"""What the lock of a run itself is called by, before its id: a run that writes no table is alive
by it."""


@dataclass(frozen=True)
class Holder:
    """A process that holds a lock.

    Attributes:
        job: what it does.
        run_id: of its run.
        pid: of the process, on its host.
        host: where it runs.
        since: when it took the lock, ISO 8601, UTC.
    """

    job: str
    run_id: str
    pid: int
    host: str
    since: str

    @classmethod
    def this_process(cls, job: str, run_id: str) -> Holder:
        """This process, from now on."""
        since = datetime.now(UTC).isoformat(timespec="seconds")
        return cls(job, run_id, os.getpid(), socket.gethostname(), since)

    def __str__(self) -> str:
        return (
            f"{self.job} (run {self.run_id}, process {self.pid} on {self.host}, since {self.since})"
        )


class Locks(Protocol):
    """A lake's locks on one kind of storage."""

    knows_the_living: bool
    """Whether a run that holds no lock here is sure to have ended."""

    def hold(self, names: tuple[str, ...], holder: Holder) -> AbstractContextManager[None]:
        """Holds all of the named locks or none.

        Raises:
            TableHeldError: another holder has one of them; its text names the holder.
        """

    def holders(self) -> dict[str, Holder | None]:
        """Who holds what now: by lock; None is a holder that did not say who it is."""


def locks_of(root: str) -> Locks:
    """The locks of a lake, as its storage has them."""
    if storage.is_local(root):
        return _FileLocks(storage.local_path(root) / "_locks")
    return _NoLocks(root)


@contextmanager
def writing(
    root: str, tables: tuple[str, ...], *, run_id: str, job: str, is_inner: bool = False
) -> Iterator[None]:
    """Holds the locks of all tables a run writes, and that of the run itself.

    Args:
        root: of the lake.
        tables: names; all of them are taken at once, so two runs never wait on each other.
        run_id: of the holder, for the other's message, and for `living_runs`.
        job: of the holder, for the other's message.
        is_inner: the run holds its own lock already, by a block around this one.

    Raises:
        TableHeldError: another writer has one of them; its text names the holder.
    """
    names = (*sorted(tables), *(() if is_inner else (_RUN + run_id,)))
    with locks_of(root).hold(names, Holder.this_process(job, run_id)):
        yield


def living_runs(root: str) -> frozenset[str] | None:
    """The runs that hold a lock of the lake; None where its storage cannot tell."""
    locks = locks_of(root)
    if not locks.knows_the_living:
        return None
    names = locks.holders()
    of_runs = {name.removeprefix(_RUN) for name in names if name.startswith(_RUN)}
    return frozenset(of_runs | {holder.run_id for holder in names.values() if holder})


class _FileLocks:
    """One file a lock, held by `flock`, its holder written inside.

    Taking, releasing and asking happen under a further lock, of microseconds, so that who asks is
    never taken for a holder, and nobody sees a lock whose holder is not yet written.
    """

    knows_the_living = True

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @contextmanager
    def hold(self, names: tuple[str, ...], holder: Holder) -> Iterator[None]:
        self._folder.mkdir(parents=True, exist_ok=True)
        with ExitStack() as files:
            with self._guarded():
                taken = {name: self._take(name, files) for name in names}
                for file in taken.values():
                    file.truncate(0)
                    file.write(json.dumps(asdict(holder)))
                    file.flush()
            try:
                yield
            finally:
                with self._guarded():
                    for name, file in taken.items():
                        file.truncate(0)
                        if name.startswith(_RUN):
                            self._file(name).unlink(missing_ok=True)
                    files.close()

    def holders(self) -> dict[str, Holder | None]:
        found: dict[str, Holder | None] = {}
        if not self._folder.exists():
            return found
        with self._guarded():
            for path in sorted(self._folder.glob("*.lock")):
                with path.open("r+", encoding="utf-8") as file:
                    if not _try_flock(file):
                        found[path.stem] = _read_holder(file)
        return found

    def _take(self, name: str, files: ExitStack) -> IO[str]:
        path = self._file(name)
        file = files.enter_context(path.open("a+", encoding="utf-8"))
        if not _try_flock(file):
            holder = _read_holder(file)
            raise TableHeldError(
                f"table {name} is being written by {holder or 'another process'}; wait for it, or "
                f"stop it and run the same command again ({path})"
            )
        return file

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        with (self._folder / "guard").open("a") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def _file(self, name: str) -> Path:
        return self._folder / f"{name}.lock"


class _NoLocks:
    """Storage without locks: says so, and never takes a run for dead."""

    knows_the_living = False

    def __init__(self, root: str) -> None:
        self._root = root

    @contextmanager
    def hold(self, names: tuple[str, ...], holder: Holder) -> Iterator[None]:
        print(  # noqa: T201
            f"{self._root}: no lock on this kind of storage; see to it that one job writes at a "
            "time",
            file=sys.stderr,
        )
        yield

    def holders(self) -> dict[str, Holder | None]:
        return {}


def _try_flock(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _read_holder(file: IO[str]) -> Holder | None:
    file.seek(0)
    try:
        return Holder(**json.loads(file.read()))
    except (ValueError, TypeError):
        return None
