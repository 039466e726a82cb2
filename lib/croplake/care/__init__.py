"""Care of a whole lake: keeping it small, checking it, forgetting photos."""
