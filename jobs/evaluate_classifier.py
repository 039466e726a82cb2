"""spark-submit entry of `croplake evaluate-classifier`."""

import sys

from croplake.jobs.entry import main

if __name__ == "__main__":
    sys.exit(main("evaluate_classifier"))
