"""A trained classifier at work: on the examples of a split, on new photos."""
