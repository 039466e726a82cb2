"""spark-submit entry of `croplake build-examples`."""

import sys

from croplake.jobs.entry import main

if __name__ == "__main__":
    sys.exit(main("build_examples"))
