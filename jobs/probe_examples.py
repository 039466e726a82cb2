"""spark-submit entry of `croplake probe-examples`."""

import sys

from croplake.jobs.entry import main

if __name__ == "__main__":
    sys.exit(main("probe_examples"))
