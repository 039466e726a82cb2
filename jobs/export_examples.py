"""spark-submit entry of `croplake export-examples`."""

import sys

from croplake.jobs.entry import main

if __name__ == "__main__":
    sys.exit(main("export_examples"))
