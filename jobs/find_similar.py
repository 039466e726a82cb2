"""spark-submit entry of `croplake find-similar`."""

import sys

from croplake.jobs.entry import main

if __name__ == "__main__":
    sys.exit(main("find_similar"))
