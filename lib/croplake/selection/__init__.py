"""Which boxes a dataset takes: rules, categories, caps."""
