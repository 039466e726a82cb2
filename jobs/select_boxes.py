"""spark-submit entry of `croplake select-boxes`."""

import sys

from croplake.jobs.entry import main

if __name__ == "__main__":
    sys.exit(main("select_boxes"))
