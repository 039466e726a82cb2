"""Downloads beside TensorFlow, in either order of loading."""

from __future__ import annotations

import subprocess
import sys

import pytest

_PROGRAM = """
import http.server, sys, threading
{imports}
from croplake.fetching.libcurl import pycurl
server = http.server.HTTPServer(("127.0.0.1", 0), http.server.SimpleHTTPRequestHandler)
threading.Thread(target=server.handle_request, daemon=True).start()
curl = pycurl.Curl()
curl.setopt(curl.URL, f"http://127.0.0.1:{{server.server_port}}/none")
curl.setopt(curl.WRITEFUNCTION, lambda part: None)
curl.perform()
print(curl.getinfo(curl.RESPONSE_CODE))
"""


@pytest.mark.parametrize(
    "imports",
    ["import tensorflow", "import croplake.fetching.transfers, tensorflow"],
    ids=["tensorflow first", "pycurl first"],
)
def test_pycurl_keeps_its_own_libcurl_beside_tensorflow(imports: str) -> None:
    program = _PROGRAM.format(imports=imports)
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert done.stdout == "404\n", done.stderr
