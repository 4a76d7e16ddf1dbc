"""Small data sets in the layouts that torchvision unpacks archives to, made of noise."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

CLASSES = ("blue", "green", "red")


def picture(path: Path, seed: int, channel: int = 0) -> None:
    """Write a noisy picture of one colour."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 160, (20, 24, 3))
    pixels[..., channel] += 90
    Image.fromarray(pixels.astype(np.uint8)).save(path)


def colours(path: Path, seed: int, channels: Sequence[int]) -> None:
    """Write a noisy picture that is bright in some channels."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 120, (20, 24, 3))
    for channel in channels:
        pixels[..., channel] += 120
    Image.fromarray(pixels.astype(np.uint8)).save(path)


def class_folders(root: Path, count: int, seed: int = 0, classes: Sequence[str] = CLASSES) -> Path:
    """Write a folder of class folders."""
    for number, name in enumerate(classes):
        for i in range(count):
            picture(root / name / f"{name}_{i:02d}.png", 1000 * seed + 100 * number + i, number % 3)
    return root


def dtd(root: Path, count: int = 6) -> Path:
    """Write torchvision's DTD: two partitions of three parts."""
    class_folders(root / "dtd" / "dtd" / "images", 3 * count)
    (root / "dtd" / "dtd" / "labels").mkdir()
    for partition in (1, 2):
        for number, part in enumerate(("train", "val", "test")):
            shift = (number + partition - 1) % 3 * count
            names = [f"{name}/{name}_{i + shift:02d}.png" for name in CLASSES for i in range(count)]
            (root / "dtd" / "dtd" / "labels" / f"{part}{partition}.txt").write_text("\n".join(names) + "\n")
    return root


def eurosat(root: Path, count: int = 10) -> Path:
    """Write torchvision's EuroSAT, which has no parts."""
    class_folders(root / "eurosat" / "2750", count)
    return root


def caltech101(root: Path, count: int = 6) -> Path:
    """Write torchvision's Caltech101, whose files have the same names in all classes."""
    for number, name in enumerate((*CLASSES, "BACKGROUND_Google")):
        for i in range(count):
            picture(root / "caltech101/101_ObjectCategories" / name / f"image_{i + 1:04d}.jpg", 100 * number + i)
    (root / "caltech101" / "Annotations").mkdir()
    return root


def voc(root: Path, parts: Mapping[str, Sequence[Mapping[str, Sequence[int]]]]) -> Path:
    """Write torchvision's VOC2007: for each part, of each image the `difficult` marks of the objects of each class."""
    folder, number = root / "VOCdevkit" / "VOC2007", 0
    for name in ("ImageSets/Main", "Annotations"):
        (folder / name).mkdir(parents=True)
    for part, images in parts.items():
        names = []
        for image in images:
            number += 1
            names.append(f"{number:06d}")
            boxes = "".join(
                f"<object><name>{name}</name><difficult>{mark}</difficult><part><name>head</name></part></object>"
                for name, marks in image.items()
                for mark in marks
            )
            (folder / "Annotations" / f"{names[-1]}.xml").write_text(f"<annotation>{boxes}</annotation>")
            channels = [index for index, name in enumerate(("person", "car", "dog")) if 0 in image.get(name, ())]
            colours(folder / "JPEGImages" / f"{names[-1]}.jpg", number, channels)
        (folder / "ImageSets" / "Main" / f"{part}.txt").write_text("\n".join(names) + "\n")
    return root


def list_of(folder: Path, file: Path, separator: str = "\t") -> Path:
    """Write a list of a folder of class folders, which lies beside the list."""
    paths = sorted(folder.rglob("*.png"))
    lines = [f"{path.relative_to(file.parent)}{separator}{path.parent.name}" for path in paths]
    file.write_text("\n".join(lines) + "\n")
    return file
