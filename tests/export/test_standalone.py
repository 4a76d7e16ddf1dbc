"""The lines that the command prints load every export, in a process that cannot import hardviews."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from hardviews.export.comparison import difference, fixed_images, own_features
from hardviews.export.formats import FORMATS

ALL = [name for name in FORMATS if name != "detectron2"]  # its lines need detectron2

# Runs the printed lines of each format; `features` is their result, or that of the line after them.
CHILD = """
import sys

sys.modules["hardviews"] = None  # importing it fails
import json
import numpy as np
import torch
from PIL import Image

pixels = torch.from_numpy(np.load("pixels.npy"))
images_of_numpy = np.load("images.npy")
image = [Image.open(f"{i}.png") for i in range(len(pixels))]
for name, code in json.load(open("codes.json")).items():
    names = {"image": image, "images": images_of_numpy if name == "onnx" else torch.from_numpy(images_of_numpy)}
    with torch.no_grad():
        exec(code, names)
        features = names["features"] if "features" in names else names["model"](pixels)
    np.save(f"{name}.npy", np.asarray(features))
assert not [module for module in sys.modules if module.startswith("hardviews.")]
"""


@pytest.mark.parametrize("names", [["timm"], pytest.param(ALL, marks=pytest.mark.exports)], ids=["timm", "all"])
def test_the_printed_lines_load_the_export(names, export, small_vit, here):
    codes = {name: FORMATS[name].loading(small_vit, str(export("test_vit", name))) for name in names}
    images = fixed_images(small_vit.image_size)
    np.save("images.npy", images.numpy())
    np.save("pixels.npy", small_vit.normalisation.normalise(images).numpy())
    for i, picture in enumerate(images):
        Image.fromarray(picture.permute(1, 2, 0).numpy()).save(f"{i}.png")
    (here / "codes.json").write_text(json.dumps(codes))
    done = subprocess.run([sys.executable, "-c", CHILD], capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    expected = own_features(small_vit, images)
    found = {name: difference(torch.from_numpy(np.load(f"{name}.npy")), expected) for name in names}
    # The transform of timm, which transformers uses, divides and subtracts in another order.
    bounds = {"timm": 0.0, "huggingface": 1e-5, "torchvision": 1e-5, "onnx": 1e-4, "torch_export": 1e-5}
    assert {name for name in names if found[name] > bounds[name]} == set(), found
