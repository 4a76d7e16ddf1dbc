"""Nothing that is made for the eye may cost a result."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from hardviews.tracking.scrub import brief

logger = logging.getLogger(__name__)


@contextmanager
def spare(path: str) -> Iterator[None]:
    """Inside, a failure costs the figure at `path` alone: a warning says why, and nothing is raised."""
    try:
        yield
    except Exception as error:
        logger.warning("%s is left out (%s: %s)", path, type(error).__name__, brief(error))
