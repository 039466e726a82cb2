"""Training examples: split, rules in px, shuffle, layout of the shards."""
