"""spark-submit entry of `croplake classify-photos`."""

import sys

from croplake.jobs.entry import main

if __name__ == "__main__":
    sys.exit(main("classify_photos"))
