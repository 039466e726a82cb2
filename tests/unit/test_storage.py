"""What a place's errors mean."""

from __future__ import annotations

import errno

import pytest

from croplake.storage import is_refusal


@pytest.mark.parametrize(
    ("error", "is_final"),
    [
        (PermissionError(errno.EACCES, "Permission denied"), True),
        (NotADirectoryError(errno.ENOTDIR, "Not a directory"), True),
        (OSError(errno.EROFS, "Read-only file system"), True),
        (OSError(errno.ENOSPC, "No space left on device"), False),
        (OSError("When uploading: AWS Error ACCESS_DENIED during PutObject operation"), True),
        (OSError("When uploading: AWS Error NO_SUCH_BUCKET during PutObject operation"), True),
        (OSError("AWS Error NETWORK_CONNECTION during HeadObject operation: curlCode: 7"), False),
    ],
)
def test_a_refusal_is_told_from_what_may_pass(error: OSError, is_final: bool) -> None:
    assert is_refusal(error) == is_final
