"""The packed dataset: whether its place can be listed and read, and holds a packed dataset."""

from collections.abc import Iterator

from hardviews.doctor.finding import Finding, ok, skipped, warning
from hardviews.doctor.probe import DATA, Probe
from hardviews.doctor.settings import Doctor
from hardviews.doctor.store import PATIENCE, elsewhere, is_s3, on_s3
from hardviews.storage.store import open_store
from hardviews.storage.url import local_path

_INDEX = "index.json"


def look(settings: Doctor) -> Iterator[Finding]:
    """Read from the place; with `--write` also write to it."""
    url = settings.data
    if url is None:
        yield skipped("data", "no dataset is named", "--data s3://BUCKET/PREFIX, or HARDVIEWS_DATA")
        return
    yield ok("data", url)
    over = False
    if is_s3(url):
        for finding in on_s3(url, settings.write, read=_INDEX):
            over = over or (finding.what in ("list", "read", "credentials") and finding.state != "ok")
            yield finding
    elif local_path(url) is None:
        yield from elsewhere(url, settings.write)
    elif settings.write:
        open_store(url).check_writable()
        yield ok("write", "allowed")
    if not over:
        yield _packed(url)


def _packed(url: str) -> Finding:
    store = open_store(url, PATIENCE)
    parts = [part for part in ("", "train", "test") if store.size(f"{part}/{_INDEX}".lstrip("/")) is not None]
    if parts:
        return ok("dataset", "packed" + "".join(f", {part}" for part in parts if part))
    return warning("dataset", "nothing is packed there yet", f"hardviews pack --source IMAGES --out {url}")


PROBE = Probe("data", DATA, look)
