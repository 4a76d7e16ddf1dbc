"""Photographs that packages ship."""

import numpy as np
import pytest
import skimage.data
from sklearn.datasets import load_sample_image


@pytest.fixture(scope="session")
def photographs() -> list[np.ndarray]:
    """Colour photographs (H, W, 3) uint8 of several sizes and shapes."""
    cat = skimage.data.chelsea()
    china, flower = load_sample_image("china.jpg"), load_sample_image("flower.jpg")
    return [image.copy() for image in (china, flower, skimage.data.rocket(), cat[:, 60:260])]
