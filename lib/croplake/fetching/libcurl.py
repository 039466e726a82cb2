"""pycurl, bound to the libcurl of its own wheel whatever else the process has loaded."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

__all__ = ["pycurl"]

if TYPE_CHECKING:
    import pycurl
else:
    # TensorFlow shows the whole process an older libcurl, and a Python worker of Spark that has
    # served one job may serve the next: pycurl's own comes first, all of it, at once.
    _before = sys.getdlopenflags()
    sys.setdlopenflags(os.RTLD_NOW | getattr(os, "RTLD_DEEPBIND", 0))
    try:
        import pycurl
    finally:
        sys.setdlopenflags(_before)
