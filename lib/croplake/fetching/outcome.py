"""How the try of a photo or a box ends: named statuses, and which of them may pass."""

from __future__ import annotations

from enum import StrEnum


class Status(StrEnum):
    """The `status` column of `crops`; `ok` or the reason why there is no crop."""

    OK = "ok"
    # the address
    BAD_ADDRESS = "bad_address"
    FORBIDDEN_ADDRESS = "forbidden_address"
    TOO_MANY_REDIRECTS = "too_many_redirects"
    # the photo's host
    HOST_UNKNOWN = "host_unknown"
    HOST_UNREACHABLE = "host_unreachable"
    HOST_PAUSED = "host_paused"
    BAD_CERTIFICATE = "bad_certificate"
    TIMED_OUT = "timed_out"
    CONNECTION_BROKEN = "connection_broken"
    BAD_ANSWER = "bad_answer"
    NOT_FOUND = "not_found"
    REFUSED = "refused"
    BUSY = "busy"
    SERVER_ERROR = "server_error"
    # a photo at hand
    UNREADABLE = "unreadable"
    # the bytes
    TOO_MANY_BYTES = "too_many_bytes"
    INCOMPLETE = "incomplete"
    WRONG_SIZE = "wrong_size"
    WRONG_MD5 = "wrong_md5"
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
        Status.HOST_UNKNOWN,
        Status.HOST_UNREACHABLE,
        Status.HOST_PAUSED,
        Status.BAD_CERTIFICATE,
        Status.TIMED_OUT,
        Status.CONNECTION_BROKEN,
        Status.BAD_ANSWER,
        Status.BUSY,
        Status.SERVER_ERROR,
        Status.INCOMPLETE,
    }
)
"""Statuses that another try may turn into a crop."""

HOST_FAILURES = frozenset(
    {
        Status.HOST_UNKNOWN,
        Status.HOST_UNREACHABLE,
        Status.BAD_CERTIFICATE,
        Status.TIMED_OUT,
        Status.CONNECTION_BROKEN,
        Status.BAD_ANSWER,
        Status.SERVER_ERROR,
        Status.INCOMPLETE,
    }
)
"""Statuses that say something of the host, not of the photo: many in a row pause the host."""

RETRIED_IN_RUN = TRANSIENT - {Status.HOST_UNKNOWN, Status.HOST_PAUSED, Status.BAD_CERTIFICATE}
"""Statuses for which a source is asked once more within the same run."""


class PhotoError(Exception):
    """A photo that could not be had or read.

    Attributes:
        status: its name in the tables.
        detail: what was found, for a person.
        http_status: of the last answer, where there was one.
        retry_after_s: how long the host asked to be left alone, where it did.
    """

    def __init__(
        self,
        status: Status,
        detail: str,
        http_status: int | None = None,
        *,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(f"{status}: {detail}")
        self.status = status
        self.detail = detail
        self.http_status = http_status
        self.retry_after_s = retry_after_s
