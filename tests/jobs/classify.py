"""What tests of `classify-photos` share: odd photos, a host, the command."""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from PIL import Image

from tests.colour_model import COLOURS
from tests.html_page import Page, parse_page
from tests.jobs.small_lake import SmallLake

RED, GREEN, BLUE = COLOURS
GREY = (99, 99, 99)
SCRIPT = "<script>document.title='taken'</script>"
NAMES = ("Red & <b>rosy</b>", "unsure", "Grün/Blau 100%")
FOLDERS = {"Red & <b>rosy</b>": "Red & _b_rosy__b-", "unsure": "unsure-", NAMES[2]: "Grün_Blau"}


def jpeg(colour: tuple[int, int, int], size: tuple[int, int] = (40, 30), **options: Any) -> bytes:  # noqa: ANN401
    target = io.BytesIO()
    Image.new("RGB", size, colour).save(target, "JPEG", quality=95, **options)
    return target.getvalue()


def turned() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return jpeg(RED, exif=exif)


FILES = {
    "a=1/photo ä 100%.jpg": jpeg(RED),
    "b/photo ä 100%.jpg": jpeg(GREEN),
    "b/new\nline.jpg": turned(),
    f"b/{SCRIPT.replace('/', '_')}.jpg": jpeg(BLUE),
    "b/grey.jpg": jpeg(GREY),
    "b/letter.txt": b"no photo",
    "b/cut.jpg": jpeg(RED)[:-60],
    "b/.hidden.jpg": jpeg(RED),
    "empty/none.jpg": b"",
}


def arguments(small: SmallLake, model: str, *photos: str, **sets: str) -> list[str]:
    quoted = ", ".join('"{}"'.format(photo.replace("\\", "\\\\")) for photo in photos)
    values = {"model": model, "photos": f"[{quoted}]", "batch_size": "2"} | sets
    changes = [f"classify.{name}={value}" for name, value in values.items()]
    out = ["classify-photos", "--conf", small.conf]
    return [*out, *(part for change in changes for part in ("--set", change))]


def page_of(small: SmallLake) -> Page:
    (file,) = (small.folder / "reports").glob("*.html")
    assert file.name.startswith("predictions_")
    return parse_page(file.read_text(encoding="utf-8"))


class Host(BaseHTTPRequestHandler):
    """Photos by their colour; it counts who asks at once."""

    lock, inside, most = threading.Lock(), 0, 0

    def do_GET(self) -> None:
        cls = type(self)
        with cls.lock:
            cls.inside += 1
            cls.most = max(cls.most, cls.inside)
        body = jpeg(RED) if "red" in self.path else jpeg(GREEN)
        found = "gone" not in self.path
        # Another request under way would be seen in the meantime.
        cls.pause.wait(0.02)
        with cls.lock:
            cls.inside -= 1
        self.send_response(200 if found else 404)
        self.send_header("Content-Length", str(len(body) if found else 0))
        self.end_headers()
        if found:
            self.wfile.write(body)

    pause = threading.Event()

    def log_message(self, format: str, *args: object) -> None:
        """Nothing."""


@contextmanager
def host() -> Iterator[str]:
    Host.most = 0
    with ThreadingHTTPServer(("127.0.0.1", 0), Host) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()
