"""Cases of addresses, redirects and bytes."""

from __future__ import annotations

import base64
import hashlib

from croplake.fetching.outcome import Status
from tests.faults import faults as f
from tests.faults import pictures as p
from tests.faults.case import QUICK_S, Case

_ANOTHER_MD5 = "rL0YyGK2Xh2YK3Nmzgx6Zw=="
_NOT_PUBLIC = "is no public address"


def _md5(data: bytes) -> str:
    return base64.b64encode(hashlib.md5(data, usedforsecurity=False).digest()).decode()


def _forbidden(name: str, does: str, target: str, detail: str = _NOT_PUBLIC) -> Case:
    """A redirect to where nothing may be asked."""
    return Case(name, f"redirects to {does}", Status.FORBIDDEN_ADDRESS, detail,
                script=f.redirects(target))  # fmt: skip


ADDRESSES = (
    Case("redirect_loop", "redirects for ever", Status.TOO_MANY_REDIRECTS, "more than 5",
         script=f.redirects("/{number}"), num_requests=6),
    Case("redirect_to_another_host", "redirects to another host, which has the photo", Status.OK,
         script=f.redirects("http://redirect-to-another-host-other.example/photo.jpg"),
         http_status=200, num_requests=2),
    Case("redirect_at_home", "redirects to an address of its own, 301", Status.OK,
         script=f.in_turn(f.redirects("/photo/2.jpg", 301), f.serves(p.jpeg)), http_status=200,
         num_requests=2),
    _forbidden("redirect_to_loopback", "127.0.0.1", "http://127.0.0.1/photo.jpg"),
    _forbidden("redirect_to_metadata", "169.254.169.254", "http://169.254.169.254/latest/"),
    _forbidden("redirect_to_ipv6_loopback", "[::1]", "http://[::1]/photo.jpg"),
    _forbidden("redirect_to_mapped_loopback", "127.0.0.1 as IPv6", "http://[::ffff:7f00:1]/"),
    _forbidden("redirect_to_a_number", "127.0.0.1 as one number", "http://2130706433/"),
    _forbidden("redirect_to_octal", "127.0.0.1 in octal", "http://0177.0.0.1/"),
    _forbidden("redirect_to_a_private_network", "10.0.0.1", "http://10.0.0.1/photo.jpg"),
    _forbidden("redirect_to_localhost", "localhost", "http://localhost/photo.jpg", "localhost"),
    Case("redirect_to_a_file", "redirects to file:///etc/passwd", Status.BAD_ADDRESS,
         "not an http(s) address", script=f.redirects("file:///etc/passwd")),
    Case("redirect_to_other_bytes", "redirects to what is no UTF-8", Status.BAD_ADDRESS,
         "not an http(s) address", script=f.redirects_to_bytes(b"data:image/jpeg,\xff\xd8\xe4")),
    Case("redirect_nowhere", "answers 302 without a Location", Status.REFUSED, "HTTP 302",
         script=f.refuses(302), http_status=302),
    Case("redirect_with_an_endless_page", "redirects, with a page without an end", Status.REFUSED,
         "HTTP 302", script=f.redirects_with_an_endless_page, http_status=302),
    Case("private_name", "its name leads to a private address", Status.FORBIDDEN_ADDRESS,
         "leads to 127.0.0.1", is_private=False, num_requests=0),
    Case("metadata_address", "the CSV's address is 169.254.169.254", Status.FORBIDDEN_ADDRESS,
         _NOT_PUBLIC, original="http://169.254.169.254/latest/meta-data/", num_requests=0),
    Case("localhost", "the CSV's address is localhost", Status.FORBIDDEN_ADDRESS,
         "localhost leads to", original="http://localhost/photo.jpg", num_requests=0),
    Case("number_address", "the CSV's address is 127.0.0.1 as one number",
         Status.FORBIDDEN_ADDRESS, _NOT_PUBLIC, original="http://2130706433/photo.jpg",
         num_requests=0),
    Case("address_with_credentials", "the CSV's address holds a password", Status.BAD_ADDRESS,
         "credentials", original="http://me:secret@{host}/photo.jpg", num_requests=0),
    Case("address_without_host", "the CSV's address names no host", Status.BAD_ADDRESS,
         "no host", original="http:///photo.jpg", num_requests=0),
    Case("endless_address", "the CSV's address has 100,000 letters", Status.BAD_ADDRESS,
         "at most 8192", original="http://{host}/" + "a" * 100_000, num_requests=0),
    Case("file_address", "the CSV's address is a file's", Status.BAD_ADDRESS,
         "not an http(s) address", original="file:///etc/passwd", num_requests=0),
    Case("placeholder", "redirects to Flickr's photo_unavailable", Status.NOT_FOUND,
         "photo_unavailable_l.png", http_status=302,
         script=f.redirects("https://s.yimg.com/pw/images/en-us/photo_unavailable_l.png")),
)  # fmt: skip

CONTENT = (
    Case("html", "answers 200 with a page", Status.NOT_A_PHOTO, "an HTML page",
         script=f.serves(p.HTML, "text/html"), http_status=200),
    Case("xml", "answers 200 with an XML error", Status.NOT_A_PHOTO, "XML",
         script=f.serves(p.XML, "application/xml"), http_status=200),
    Case("nothing", "answers 200 with nothing", Status.EMPTY, "0 bytes",
         script=f.serves(b""), http_status=200),
    Case("wrong_content_type", "calls a sound JPEG text/html", Status.OK,
         script=f.serves(p.jpeg, "text/html"), http_status=200),
    Case("html_called_a_jpeg", "calls a page image/jpeg", Status.NOT_A_PHOTO, "an HTML page",
         script=f.serves(p.HTML), http_status=200),
    Case("packed_photo", "packs a sound JPEG unasked", Status.OK, script=f.packs(f.packed_jpeg),
         http_status=200),
    Case("gzip_bomb", "sends 64 KB that unpack to 64 MB", Status.TOO_MANY_BYTES, "more than",
         script=f.packs(p.gzip_bomb), http_status=200),
    Case("gzip_in_gzip", "says it packed the photo nine times", Status.BAD_ANSWER,
         script=f.packs(f.packed_jpeg, times=9), http_status=200, num_requests=2),
    Case("broken_gzip", "says it packed a photo and did not", Status.BAD_ANSWER,
         script=f.packs(p.jpeg), http_status=200, num_requests=2),
    Case("over_the_limit", "sends more bytes than a photo may have", Status.TOO_MANY_BYTES,
         f"more than {f.MAX_BYTES} bytes", script=f.over_the_limit, http_status=200),
    Case("wrong_size", "announces another length than the catalog's", Status.WRONG_SIZE,
         "the catalog says 12345", size_bytes=12_345, http_status=200),
    Case("wrong_size_in_chunks", "sends another length than the catalog's", Status.WRONG_SIZE,
         "the catalog says 12345", size_bytes=12_345, script=f.chunked, http_status=200),
    Case("wrong_md5", "sends another photo of the same length", Status.WRONG_MD5,
         f"the catalog says {_ANOTHER_MD5}", size_bytes=len(p.jpeg()),
         md5_base64=_ANOTHER_MD5, http_status=200),
    Case("the_original", "sends the original that the catalog knows", Status.OK,
         size_bytes=len(p.jpeg()), md5_base64=_md5(p.jpeg()), http_status=200),
    Case("replaced_then_fall_back", "has another photo by now; the second source has the right one",
         Status.OK, md5_base64=_ANOTHER_MD5, thumbnail="http://{other}/photo.jpg",
         http_status=200, source="thumbnail", num_requests=2),
    Case("broken_at_hand", "a file at hand is damaged; its host has the photo", Status.OK,
         at_hand=p.cut_off(), http_status=200),
    Case("good_at_hand", "a file at hand holds the photo", Status.OK, at_hand=p.jpeg(),
         source="at_hand", num_requests=0),
)  # fmt: skip


def _picture(
    name: str, does: str, data: bytes, status: Status = Status.OK, detail: str = ""
) -> Case:
    return Case(name, f"sends {does}", status, detail, script=f.serves(data), http_status=200,
                greatest_s=QUICK_S)  # fmt: skip


PICTURES = (
    _picture("png_bomb", "a PNG of 30,000 × 30,000 px in 2 KB", p.png_bomb(),
             Status.TOO_MANY_PIXELS, "900000000"),
    _picture("jpeg_bomb", "a JPEG that says 65,500 × 65,500 px", p.jpeg_bomb(),
             Status.TOO_MANY_PIXELS, "65500×65500 px"),
    _picture("png_text_bomb", "a PNG with 64 MB of packed comment", p.png_text_bomb(),
             Status.BROKEN_PHOTO, "too large"),
    _picture("jpeg_of_many_scans", "a JPEG of 5,000 scans", p.scan_bomb(), Status.BROKEN_PHOTO,
             "scans, at most 200"),
    _picture("truncated", "a JPEG without its second half", p.cut_off(), Status.BROKEN_PHOTO,
             "Premature end"),
    _picture("bit_flipped", "a JPEG with one wrong bit in its pixels", p.bit_flipped(),
             Status.BROKEN_PHOTO, "marker"),
    _picture("header_flipped", "a JPEG with one wrong bit in its header", p.header_flipped(),
             Status.BROKEN_PHOTO, "JPEG header cannot be read"),
    _picture("cmyk", "a CMYK JPEG", p.jpeg("CMYK")),
    _picture("grey", "a grey JPEG", p.jpeg("L")),
    _picture("grey_16_bit_png", "a PNG of 16 bits a pixel", p.grey_16_bit_png()),
    _picture("exif_turned", "a JPEG that EXIF would turn", p.exif_turned()),
    _picture("mpo", "an MPO", p.mpo()),
    _picture("trailing_zip", "a JPEG with a ZIP behind it", p.with_trailing_zip()),
    _picture("polyglot", "a JPEG with a page in its comment", p.polyglot()),
    _picture("gif_script", "a script that begins like a GIF", p.gif_script(),
             Status.BROKEN_PHOTO, "GIF header cannot be read"),
    _picture("eps", "an EPS", p.EPS, Status.UNSUPPORTED_FORMAT, "EPS, expected"),
    _picture("svg", "an SVG", p.SVG, Status.UNSUPPORTED_FORMAT, "SVG, expected"),
    _picture("svg_with_prologue", "an SVG with an XML prologue", p.SVG_WITH_PROLOGUE,
             Status.UNSUPPORTED_FORMAT, "SVG, expected"),
    _picture("avif", "an AVIF", p.of_kind("AVIF"), Status.UNSUPPORTED_FORMAT, "AVIF, expected"),
    _picture("tiff", "a TIFF", p.of_kind("TIFF")),
    _picture("gif", "a GIF", p.of_kind("GIF")),
    _picture("webp", "a WebP", p.of_kind("WEBP")),
)  # fmt: skip
