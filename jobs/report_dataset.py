"""spark-submit entry of `croplake report-dataset`."""

import sys

from croplake.jobs.entry import main

if __name__ == "__main__":
    sys.exit(main("report_dataset"))
