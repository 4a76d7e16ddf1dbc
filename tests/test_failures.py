"""Failures of disks and packages are distinguished from temporary ones."""

import errno

import pytest

from hardviews.failures import Needs, links, of_machine


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EACCES])
def test_a_disk_needs_the_user(number: int) -> None:
    remedy = of_machine(OSError(number, "text", "/out/file"), "/out")
    assert remedy is not None and remedy.needs is Needs.USER and remedy.words.startswith("/out/file: ")


def test_a_package_needs_software() -> None:
    remedy = of_machine(ModuleNotFoundError("No module named 'boto3'", name="boto3"), "s3://bucket")
    assert remedy is not None and remedy.needs is Needs.SOFTWARE and "pip install boto3" in remedy.words


@pytest.mark.parametrize("error", [ConnectionResetError(errno.ECONNRESET, "reset"), TimeoutError(), ValueError()])
def test_temporary_failures_have_no_remedy(error: Exception) -> None:
    assert of_machine(error, "/out") is None


def test_the_cause_is_found() -> None:
    try:
        try:
            raise OSError(errno.ENOSPC, "full", "/out/file")
        except OSError as inner:
            raise RuntimeError("a client's") from inner
    except RuntimeError as outer:
        assert [type(link) for link in links(outer)] == [RuntimeError, OSError]
        assert of_machine(outer, "/out") is not None
