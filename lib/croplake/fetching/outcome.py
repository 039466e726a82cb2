"""How the try of a photo or a box ends: named statuses, and which of them may pass."""

from __future__ import annotations

from enum import StrEnum


class Status(StrEnum):
    """The `status` column of `crops`; `ok` or the reason why there is no crop."""

    OK = "ok"
    # the photo's host
    HOST_UNREACHABLE = "host_unreachable"
    TIMED_OUT = "timed_out"
    CONNECTION_BROKEN = "connection_broken"
    TOO_MANY_REDIRECTS = "too_many_redirects"
    BAD_ADDRESS = "bad_address"
    NOT_FOUND = "not_found"
    REFUSED = "refused"
    BUSY = "busy"
    SERVER_ERROR = "server_error"
    # the bytes
    TOO_MANY_BYTES = "too_many_bytes"
    INCOMPLETE = "incomplete"
    EMPTY = "empty"
    NOT_A_PHOTO = "not_a_photo"
    UNSUPPORTED_FORMAT = "unsupported_format"
    TOO_MANY_PIXELS = "too_many_pixels"
    BROKEN_PHOTO = "broken_photo"
    # the box
    EMPTY_CROP = "empty_crop"
    # the catalog
    PHOTO_NOT_LISTED = "photo_not_listed"
    NO_SOURCE = "no_source"
    # a defect of ours or of a library; the detail names the exception
    UNEXPECTED = "unexpected"


TRANSIENT = frozenset(
    {
        Status.HOST_UNREACHABLE,
        Status.TIMED_OUT,
        Status.CONNECTION_BROKEN,
        Status.BUSY,
        Status.SERVER_ERROR,
        Status.INCOMPLETE,
    }
)
"""Statuses that another try may turn into a crop."""


class PhotoError(Exception):
    """A photo that could not be had or read.

    Attributes:
        status: its name in the tables.
        detail: what was found, for a person.
        http_status: of the last answer, where there was one.
    """

    def __init__(self, status: Status, detail: str, http_status: int | None = None) -> None:
        super().__init__(f"{status}: {detail}")
        self.status = status
        self.detail = detail
        self.http_status = http_status
