"""The lines that the command prints load every export, in a process that cannot import hardviews."""

import json
import subprocess
import sys

import numpy as np
import torch
from PIL import Image

from hardviews.export.comparison import difference, fixed_images, own_features
from hardviews.export.formats import FORMATS

# Runs the printed lines of each format; `features` is what they, or the line after them, compute.
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


def test_the_printed_lines_load_every_format(export, small_vit, here):
    names = [name for name in FORMATS if name != "detectron2"]
    codes = {name: FORMATS[name].loading(small_vit, str(export("test_vit", name))) for name in names}
    images = fixed_images(small_vit.image_size)
    pixels = small_vit.normalisation.normalise(images)
    np.save("images.npy", images.numpy())
    np.save("pixels.npy", pixels.numpy())
    for i, picture in enumerate(images):
        Image.fromarray(picture.permute(1, 2, 0).numpy()).save(f"{i}.png")
    (here / "codes.json").write_text(json.dumps(codes))
    done = subprocess.run([sys.executable, "-c", CHILD], capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    expected = own_features(small_vit, images)
    found = {name: difference(torch.from_numpy(np.load(f"{name}.npy")), expected) for name in names}
    assert found["timm"] == 0
    assert found["huggingface"] < 1e-5, "timm's transform divides in another order"
    assert found["torchvision"] < 1e-5 and found["torch_export"] < 1e-5 and found["onnx"] < 1e-4
