"""Training the classifier: Parquet shards → N distributed workers → a Keras model."""
