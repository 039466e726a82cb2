"""Pictures as hosts may send them: sound, odd, damaged and hostile ones."""

from __future__ import annotations

import functools
import gzip
import io
import struct
import zipfile
import zlib

import numpy as np
from PIL import Image

WIDTH_PX, HEIGHT_PX = 64, 48


def _drawn(mode: str = "RGB") -> Image.Image:
    """A picture with detail everywhere, so that damage shows."""
    rng = np.random.default_rng(3)
    small = rng.integers(0, 256, (12, 16, 3), dtype=np.uint8)
    size = (WIDTH_PX, HEIGHT_PX)
    return Image.fromarray(small).resize(size, Image.Resampling.BICUBIC).convert(mode)


def _saved(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


@functools.cache
def jpeg(mode: str = "RGB") -> bytes:
    """A sound JPEG."""
    return _saved(_drawn(mode), "JPEG", quality=95)


def of_kind(kind: str) -> bytes:
    """The same picture in another format."""
    return _saved(_drawn(), kind)


def scan_bomb(num_scans: int = 5000) -> bytes:
    """A progressive JPEG that goes over its pixels again and again."""
    data = _saved(_drawn("L"), "JPEG", progressive=True)
    first = data.index(b"\xff\xda")
    second = data.index(b"\xff\xda", first + 2)
    third = data.index(b"\xff\xda", second + 2)
    # From the tables of the second scan to those of the third.
    tables, after = data.rindex(b"\xff\xc4", first, second), data.rindex(b"\xff\xc4", second, third)
    return data[:after] + data[tables:after] * num_scans + data[after:]


def cut_off() -> bytes:
    """A JPEG without its second half."""
    return jpeg()[: len(jpeg()) // 2]


def bit_flipped() -> bytes:
    """One bit of a JPEG's pixel data turned, so that a marker stands where none may be."""
    data = bytearray(jpeg())
    data[data.index(b"\xff\x00", len(data) // 2) + 1] ^= 0x40
    return bytes(data)


def header_flipped() -> bytes:
    """One bit in the marker of a JPEG's frame: its size cannot be read."""
    data = bytearray(jpeg())
    data[data.index(b"\xff\xc0") + 1] ^= 0x20
    return bytes(data)


def exif_turned() -> bytes:
    """A JPEG whose EXIF asks for a quarter turn."""
    exif = Image.Exif()
    exif[0x0112] = 6
    return _saved(_drawn(), "JPEG", quality=95, exif=exif)


def mpo() -> bytes:
    """Two JPEGs in a file, as stereo cameras write them."""
    other = _drawn().transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return _saved(_drawn(), "MPO", save_all=True, append_images=[other])


def with_trailing_zip() -> bytes:
    """A JPEG with an archive behind it, which many programs would open instead."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("run.js", "alert(1)")
    return jpeg() + buffer.getvalue()


def polyglot() -> bytes:
    """A JPEG whose comment is a page with a script in it."""
    page = b"<html><script>alert(1)</script><!--"
    return b"\xff\xd8\xff\xfe" + struct.pack(">H", len(page) + 2) + page + jpeg()[2:]


def gif_script() -> bytes:
    """A script that begins like a GIF."""
    return b"GIF89a=1;/*" + b" " * 200 + b"*/alert(1)"


def grey_16_bit_png() -> bytes:
    """16 bits a pixel, as microscopes and scanners write them."""
    grey = np.asarray(_drawn("L"), dtype=np.uint16) * 257
    return _saved(Image.fromarray(grey), "PNG")


def png_bomb(side_px: int = 30_000) -> bytes:
    """A few kilobytes that would be gigabytes of pixels."""
    rows = zlib.compress(bytes(1 + side_px // 8) * 512, 9)
    return _png(struct.pack(">IIBBBBB", side_px, side_px, 1, 0, 0, 0, 0), (b"IDAT", rows))


def png_text_bomb(num_bytes: int = 64 * 1024 * 1024) -> bytes:
    """A small picture with a packed comment of this length."""
    comment = b"Comment\0\0" + zlib.compress(bytes(num_bytes), 9)
    pixels = zlib.compress(bytes(2), 9)
    ihdr = struct.pack(">IIBBBBB", 8, 1, 1, 0, 0, 0, 0)
    return _png(ihdr, (b"zTXt", comment), (b"IDAT", pixels))


def _png(ihdr: bytes, *chunks: tuple[bytes, bytes]) -> bytes:
    parts = [b"\x89PNG\r\n\x1a\n"]
    for name, data in ((b"IHDR", ihdr), *chunks, (b"IEND", b"")):
        parts.append(struct.pack(">I", len(data)) + name + data)
        parts.append(struct.pack(">I", zlib.crc32(name + data)))
    return b"".join(parts)


def jpeg_bomb() -> bytes:
    """A small JPEG whose frame says 65,500 by 65,500 pixels."""
    data = bytearray(jpeg())
    at = data.index(b"\xff\xc0") + 5
    data[at : at + 4] = struct.pack(">HH", 65_500, 65_500)
    return bytes(data)


@functools.cache
def gzip_bomb(num_bytes: int = 64 * 1024 * 1024) -> bytes:
    """Packed zeros."""
    return gzip.compress(bytes(num_bytes), 9)


EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(%stderr) (w) file\n"
SVG = b"<svg xmlns='http://www.w3.org/2000/svg'><image href='file:///etc/passwd'/></svg>"
SVG_WITH_PROLOGUE = b"<?xml version='1.0'?>\n" + SVG
HTML = b"<!DOCTYPE html><html><title>Sign in</title></html>"
XML = b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>"
