"""Passes of the encoder that each protocol of linear evaluation makes: `python benchmarks/probes.py`.

Counts the images of every batch that a training takes, as the evaluation itself does, on a data set of ImageNet's size.
Several rates are chosen from on held-out images, which are then not trained on.
"""

import argparse

import numpy as np

from hardviews.evaluation.features.crops import Course
from hardviews.evaluation.held_out import MOST
from hardviews.evaluation.probes.linear_protocols import DINO, PROTOCOLS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=1_281_167)
    given = parser.parse_args()
    counted = {}
    for name, protocol in PROTOCOLS.items():
        if protocol.crops is None:
            continue
        heads = len(protocol.rates) * len(protocol.weight_decays) * len(protocol.readings)
        fitted = given.samples - (min(MOST, given.samples // 10) if heads > 1 else 0)
        course = Course(np.array([given.samples]), np.arange(fitted), protocol, 0)
        counted[name] = heads, course.steps, course.images
    dino = counted[DINO.name][2]
    for name, (heads, steps, images) in counted.items():
        print(
            f"{name}: {heads} heads, {steps:,} steps, {images:,} images encoded ({images / given.samples:.2f} passes), "
            f"{images / dino:.3f} of dino's"
        )


if __name__ == "__main__":
    main()
