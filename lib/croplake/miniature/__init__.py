"""A small Open Images world: draws photos, writes the CSVs, serves them over HTTP with faults."""

from croplake.miniature.server import MiniatureServer, serve_world
from croplake.miniature.world import World, build_world

__all__ = ["MiniatureServer", "World", "build_world", "serve_world"]
