"""The miniature world around a job: drawn when missing, served while the job runs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console

from croplake.conf import Settings


@contextmanager
def world_served(settings: Settings, console: Console) -> Iterator[Settings]:
    """Serves the settings' miniature world on loopback.

    Yields:
        The settings, with every host of the world leading to it; unchanged where there is none.
    """
    if settings.miniature is None:
        yield settings
        return
    from croplake.miniature import build_world, serve_world

    conf = settings.miniature
    is_new = not Path(conf.root, "world.json").exists()
    if is_new:
        console.print(f"miniature world: drawing {conf.num_photos:,} photos into {conf.root}")
    world = build_world(Path(conf.root), num_photos=conf.num_photos, seed=conf.seed)
    with serve_world(world, remembers=True) as server:
        hosts = {**server.connect_to, **settings.fetch.connect_to}
        private = (*settings.fetch.private_hosts, *server.connect_to)
        fetch = settings.fetch.model_copy(update={"connect_to": hosts, "private_hosts": private})
        yield settings.model_copy(update={"fetch": fetch})
