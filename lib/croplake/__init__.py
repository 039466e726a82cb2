"""Open Images boxes to a Delta lake of object crops to a Keras classifier, on Spark."""

__version__ = "0.1.0"
