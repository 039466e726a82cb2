"""Executor code of fetch_crops: bytes and Arrow batches in, Arrow batches out, no pyspark."""
