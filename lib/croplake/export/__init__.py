"""Datasets for people who train elsewhere: executor code that writes shards in four formats."""
