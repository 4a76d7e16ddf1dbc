"""The container image of this version of the package."""

from pathlib import Path

import hardviews

NAME = "ghcr.io/hardviews/hardviews"
"""Name of the released image; .github/workflows/release.yml pushes it."""


def released_image() -> str | None:
    """Return the image of this version, or None in a checkout, whose code may differ from every release."""
    checkout = Path(hardviews.__file__).parents[2]
    return None if (checkout / "pyproject.toml").is_file() else f"{NAME}:{hardviews.__version__}"
