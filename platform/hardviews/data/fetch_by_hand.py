"""Addresses of the archives of torchvision's data sets, for machines that cannot download them."""

from typing import NamedTuple


class Archive(NamedTuple):
    """An archive, and the file or folder below the root that must exist once it is unpacked."""

    fetch: str
    place: str


_OXFORD = "https://www.robots.ox.ac.uk/~vgg/data"
_VOC = "https://thor.robots.ox.ac.uk/pascal/VOC/voc2007"

_ARCHIVES = {
    "CIFAR10": Archive("https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz", "cifar-10-batches-py"),
    "CIFAR100": Archive("https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz", "cifar-100-python"),
    "Caltech101": Archive(
        "https://data.caltech.edu/records/mzrjq-6wc02/files/caltech-101.zip and the two archives in it",
        "caltech101/101_ObjectCategories and caltech101/Annotations",
    ),
    "Country211": Archive("https://openaipublic.azureedge.net/clip/data/country211.tgz", "country211"),
    "DTD": Archive(f"{_OXFORD}/dtd/download/dtd-r1.0.1.tar.gz", "dtd/dtd"),
    "EuroSAT": Archive("EuroSAT.zip of https://huggingface.co/datasets/torchgeo/eurosat", "eurosat/2750"),
    "FGVCAircraft": Archive(f"{_OXFORD}/fgvc-aircraft/archives/fgvc-aircraft-2013b.tar.gz", "fgvc-aircraft-2013b/data"),
    "Flowers102": Archive(
        f"102flowers.tgz, imagelabels.mat and setid.mat of {_OXFORD}/flowers/102/",
        "flowers-102/jpg, flowers-102/imagelabels.mat and flowers-102/setid.mat",
    ),
    "Food101": Archive("http://data.vision.ee.ethz.ch/cvl/food-101.tar.gz", "food-101"),
    "INaturalist": Archive("the archive of the version at https://github.com/visipedia/inat_comp", "2021_train"),
    "ImageNet": Archive(
        "ILSVRC2012_img_train.tar, ILSVRC2012_img_val.tar and ILSVRC2012_devkit_t12.tar.gz of https://image-net.org",
        "train, val and meta.bin (torchvision makes them of the archives)",
    ),
    "Imagenette": Archive("https://s3.amazonaws.com/fast-ai-imageclas/imagenette2.tgz", "imagenette2"),
    "OxfordIIITPet": Archive(
        f"{_OXFORD}/pets/data/images.tar.gz and {_OXFORD}/pets/data/annotations.tar.gz",
        "oxford-iiit-pet/images and oxford-iiit-pet/annotations",
    ),
    "Places365": Archive("http://data.csail.mit.edu/places/places365/", "data_large_standard"),
    "STL10": Archive("http://ai.stanford.edu/~acoates/stl10/stl10_binary.tar.gz", "stl10_binary"),
    "SUN397": Archive("http://vision.princeton.edu/projects/2010/SUN/SUN397.tar.gz", "SUN397"),
    "SVHN": Archive(
        "train_32x32.mat and test_32x32.mat of http://ufldl.stanford.edu/housenumbers/",
        "train_32x32.mat and test_32x32.mat",
    ),
    "StanfordCars": Archive(
        "cars_train, cars_test, the devkit and cars_test_annos_withlabels.mat from a mirror, since the authors' server "
        "is gone",
        "stanford_cars/cars_train, stanford_cars/cars_test, stanford_cars/devkit and "
        "stanford_cars/cars_test_annos_withlabels.mat",
    ),
    "VOCDetection": Archive(
        f"{_VOC}/VOCtrainval_06-Nov-2007.tar and {_VOC}/VOCtest_06-Nov-2007.tar (for year 2007)", "VOCdevkit/VOC2007"
    ),
}


def by_hand(name: str, root: str) -> str:
    """Return a sentence about the archive and its place; empty for a dataset that is not listed."""
    archive = _ARCHIVES.get(name)
    if archive is None:
        return ""
    return f"To fetch it by hand: get {archive.fetch}, and unpack it so that {root} holds {archive.place}. "
