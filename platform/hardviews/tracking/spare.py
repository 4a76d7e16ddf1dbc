"""Protection of results from failures of figures."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from hardviews.tracking.scrub import brief

logger = logging.getLogger(__name__)


@contextmanager
def spare(path: str) -> Iterator[None]:
    """Turn a failure in the block into a warning: only the figure at `path` is lost."""
    try:
        yield
    except Exception as error:
        logger.warning("%s is left out (%s: %s)", path, type(error).__name__, brief(error))
