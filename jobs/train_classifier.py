"""spark-submit entry of `croplake train-classifier`."""

import sys

from croplake.jobs.entry import main

if __name__ == "__main__":
    sys.exit(main("train_classifier"))
