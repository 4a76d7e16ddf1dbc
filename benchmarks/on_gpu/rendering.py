"""Views that the device renders, against those of the host: pixels and speed.

Shape legend: B views.
"""

import time
from collections.abc import Callable, Iterator

import cv2
import numpy as np
import torch
from torch import Tensor

from hardviews.views import augmentation as published
from hardviews.views import device, host
from hardviews.views.augmentation import Augmentation
from hardviews.views.params import draw
from on_gpu.case import Case, Row
from on_gpu.scale import Scale
from on_gpu.timing import synchronise
from stepping.pictures import pictures

# Of 255, as tests/views/test_device.py has it: the mean over all views, and over one, else it is another picture.
_MEAN, _ONE = 0.75, 2.0
# Between the same renderer on the device and on the CPU: the mean, and the share of pixels that differ by more than 1.
_SAME, _SHARE = 0.02, 1e-3


def cases() -> list[Case]:
    """Return one case for each kind of view."""
    made = {
        "MoCo v2 view": lambda scale: published.mocov2(scale.sizes[0]),
        "DINO second view": lambda scale: published.dino_global2(scale.sizes[0]),
        "DINO local view": lambda scale: published.dino_local(scale.sizes[1]),
    }
    return [Case("renderer", "views", lambda scale: _compare(scale, made), 10, 60)]


def _compare(scale: Scale, made: dict[str, Callable[[Scale], Augmentation]]) -> Iterator[Row]:
    images = pictures(scale.views, scale.side)
    canvas = torch.from_numpy(np.stack([host.lay(image, scale.canvas, scale.canvas) for image in images]))
    height, width = (np.array([image.shape[axis] for image in images]) for axis in (0, 1))
    cv2.setNumThreads(1)
    for name, build in made.items():
        augmentation = build(scale)
        rows = draw(augmentation, 1, 0, np.arange(len(images)), 0, height, width)
        began = time.perf_counter()
        by_host = np.stack([host.render(image, row, augmentation) for image, row in zip(images, rows, strict=True)])
        host_speed = len(images) / (time.perf_counter() - began)
        rows_BC = torch.from_numpy(rows)
        there = canvas.to(scale.device), rows_BC.to(scale.device)
        on_device = _in_bytes(device.render(*there, augmentation), augmentation)
        on_cpu = _in_bytes(device.render(canvas[:8], rows_BC[:8], augmentation), augmentation)
        figures = _apart(on_device, by_host, on_cpu)
        limits = {"mean": _MEAN, "worst_view": _ONE, "mean_from_cpu": _SAME, "share_from_cpu": _SHARE}
        good = all(figures[name] <= limit for name, limit in limits.items())
        yield Row(
            f"{name}, {augmentation.size} px",
            "ok" if good else "differs",
            images=_speed(scale, augmentation, *there),
            text=_in_words(figures) + f"; a core of the host makes {host_speed:.0f} a second",
            numbers={**figures, "images_of_a_host_core": host_speed},
        )


def _apart(on_device: np.ndarray, by_host: np.ndarray, on_cpu: np.ndarray) -> dict[str, float]:
    """Return how far views differ from the host's, and some of them from those of the device renderer on the CPU."""
    difference = np.abs(on_device - by_host)
    by_view_B = difference.mean(axis=(1, 2, 3))
    same = np.abs(on_device[: len(on_cpu)] - on_cpu)
    return {
        "mean": float(by_view_B.mean()),
        "worst_view": float(by_view_B.max()),
        "largest": float(difference.max()),
        "mean_from_cpu": float(same.mean()),
        "largest_from_cpu": float(same.max()),
        "share_from_cpu": float((same > 1).mean()),
    }


def _in_words(figures: dict[str, float]) -> str:
    return (
        f"from the host's, of 255: mean {figures['mean']:.2f} (at most {_MEAN}), worst view "
        f"{figures['worst_view']:.2f} (at most {_ONE}), largest pixel {figures['largest']:.0f}; from the CPU's device "
        f"renderer: mean {figures['mean_from_cpu']:.4f} (at most {_SAME}), largest {figures['largest_from_cpu']:.3f}"
    )


def _in_bytes(pixels: Tensor, augmentation: Augmentation) -> np.ndarray:
    found: np.ndarray = augmentation.normalisation.denormalise(pixels).cpu().numpy() * 255
    return found


def _speed(scale: Scale, augmentation: Augmentation, canvas: Tensor, rows: Tensor) -> float:
    """Return views rendered per second."""
    times = 1 if scale.toy else 20
    device.render(canvas, rows, augmentation)
    synchronise(scale.device)
    began = time.perf_counter()
    for _ in range(times):
        device.render(canvas, rows, augmentation)
    synchronise(scale.device)
    return times * len(canvas) / (time.perf_counter() - began)
