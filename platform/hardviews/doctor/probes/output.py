"""The output of runs: whether files can be listed, written, read and removed there."""

from collections.abc import Iterator

from hardviews.doctor.finding import Finding, ok, skipped
from hardviews.doctor.probe import OUTPUT, Probe
from hardviews.doctor.settings import Doctor
from hardviews.doctor.store import elsewhere, is_s3, on_s3
from hardviews.storage.store import open_store
from hardviews.storage.url import local_path


def look(settings: Doctor) -> Iterator[Finding]:
    """Write a small file, and remove it."""
    url = settings.output
    if url is None:
        yield skipped("output", "no output is named", "--output FOLDER or s3://BUCKET/PREFIX, or HARDVIEWS_OUTPUT")
        return
    yield ok("output", url)
    if is_s3(url):
        yield from on_s3(url, write=True)
    elif local_path(url) is None:
        yield from elsewhere(url, write=True)
    else:
        open_store(url).check_writable()
        yield ok("write", "allowed")


PROBE = Probe("output", OUTPUT, look)
