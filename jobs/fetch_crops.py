"""spark-submit entry of `croplake fetch-crops`."""

import sys

from croplake.jobs.entry import main

if __name__ == "__main__":
    sys.exit(main("fetch_crops"))
