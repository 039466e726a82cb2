"""spark-submit entry of `croplake plan-fetch`."""

import sys

from croplake.jobs.entry import main

if __name__ == "__main__":
    sys.exit(main("plan_fetch"))
