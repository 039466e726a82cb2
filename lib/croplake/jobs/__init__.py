"""The jobs: each reads tables, writes one step's tables, prints what landed."""
