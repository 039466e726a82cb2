"""spark-submit entry of `croplake ingest-catalog`."""

import sys

from croplake.jobs.entry import main

if __name__ == "__main__":
    sys.exit(main("ingest_catalog"))
