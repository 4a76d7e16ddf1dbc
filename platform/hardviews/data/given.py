"""A data set in any form that users have, and its parts: folder, list file, torchvision dataset, shipped images."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from hardviews.data.chosen import chosen, read_keys, rest
from hardviews.data.folder import ImageFolder, check_folder
from hardviews.data.index import Index, is_dataset
from hardviews.data.joined import renumbered
from hardviews.data.known_sources import digits
from hardviews.data.label_subset import Labels
from hardviews.data.list_file import ListFile, is_list
from hardviews.data.names import printable
from hardviews.data.packed_source import PackedSource
from hardviews.data.photographs import photographs
from hardviews.data.simclr_lists import PublishedList, read_names
from hardviews.data.source import Source, Split, Subset, hold_out
from hardviews.data.torchvision_options import for_test, has_test_part, names_part
from hardviews.data.torchvision_source import torchvision_dataset
from hardviews.errors import UserError

_SHIPPED: Mapping[str, Callable[[Split | None], Source]] = {"digits": digits, "photographs": photographs}

_SPLITS: tuple[Split, Split] = ("train", "test")

Parts = dict[Split, Source]
Say = Callable[[str], None]


@dataclass(frozen=True)
class Given:
    """The origin of images, and their division into parts.

    Attributes:
        place: a folder, a list file, the root of a torchvision dataset, `digits` or `photographs`.
        torchvision: class name of a torchvision dataset.
        options: options of its class; an option that names a part is for the training part.
        test_options: options of its class, for the test part.
        test: folder or list file of the test images.
        keys: file of the keys of the training images.
        test_keys: file of the keys of the test images.
        download: let torchvision fetch the dataset.
        hold_out: share of the images set aside for testing, if nothing else names the test images.
        remedy: how the user has a dataset downloaded.
        labels: choice of labelled training images; the dataset must be packed, unless a published list names them. None
            for all.
        seed: seed of the draw of these labels.
    """

    place: str
    torchvision: str | None = None
    options: Mapping[str, str] = field(default_factory=dict)
    test_options: Mapping[str, str] = field(default_factory=dict)
    test: str | None = None
    keys: str | None = None
    test_keys: str | None = None
    download: bool = False
    hold_out: float = 0.2
    remedy: str = "add --download"
    labels: Labels | None = None
    seed: int = 0

    @property
    def shipped(self) -> bool:
        """Whether the images come with a package."""
        return self.torchvision is None and self.place in _SHIPPED

    @property
    def path(self) -> str:
        """Return the place on this machine."""
        return os.path.expanduser(self.place)

    @property
    def is_folder(self) -> bool:
        """Whether the place holds nothing but images of ours."""
        return self.torchvision is None and not self.shipped and not is_list(self.place)

    def check(self) -> None:
        """Refuse a folder of images that is not there, without a look at its images.

        Raises:
            UserError: naming it.
        """
        if self.labels is not None:
            return  # a packed dataset may lie anywhere
        for place in (self.path, self.test):
            if self.torchvision is None and not self.shipped and place is not None and not is_list(place):
                check_folder(os.path.expanduser(place))

    def parts(self, say: Say) -> Parts:
        """Open the parts: the source's own parts, parts chosen by keys, or a held-out part.

        `say` is called with sentences about the recognised layout. Without labels all images are for training.

        Raises:
            UserError: there are no images, or a class of the test images is not one of the training images.
        """
        packed = self._packed()
        if packed is not None:
            return packed
        if self.labels is not None and self.labels.listed is None:
            raise UserError(
                f"--labels draws from a packed dataset, and {printable(self.place)} is none: pack it first, and give "
                "its folder as --source."
            )
        own = self._own(say)
        if self.labels is not None and self.labels.listed is not None:
            parts = self._by_list(own, self.labels.listed, self.labels.place)
        elif self.keys is not None or self.test_keys is not None:
            parts = self._by_keys(own)
        elif "test" in own or not self.hold_out or not own["train"].classes:
            parts = own
        else:
            parts = {split: hold_out(own["train"], split, self.hold_out) for split in ("train", "test")}
        return parts if "test" not in parts else parts | {"test": renumbered(parts["test"], parts["train"].classes)}

    def _packed(self) -> Parts | None:
        """Open a packed dataset if labels are drawn from it: a draw of the training part, and the whole test part."""
        if self.labels is None or self.torchvision is not None or self.shipped or is_list(self.place):
            return None
        folder = self.place.rstrip("/")
        found = {split: f"{folder}/{split}" for split in _SPLITS if is_dataset(f"{folder}/{split}")}
        if not found and is_dataset(folder):
            found = {"train": folder}
        if "train" not in found:
            return None
        if self.keys or self.test_keys or self.test:
            raise UserError(
                f"--source {printable(self.place)} is a packed dataset: --keys, --test-keys and --test are for images "
                "that are not packed yet."
            )
        parts: Parts = {split: PackedSource(Index.load(url)) for split, url in found.items()}
        train = Index.load(found["train"])
        return parts | {"train": Subset(parts["train"], tuple(self.labels.draw(train, self.seed)))}

    def _by_list(self, own: Parts, published: PublishedList, place: str | None) -> Parts:
        """Choose the training images that a published list names; the others are left out."""
        if self.keys is not None or self.test_keys is not None:
            raise UserError(f"--labels {published.name} names the training images: leave --keys and --test-keys out.")
        return own | {"train": chosen(own["train"], read_names(published, place), published.name)}

    def whole(self, split: Split, say: Say) -> Source:
        """Open one part alone, all of a source that has no parts."""
        if self.torchvision is not None:
            part = self._of_torchvision(split if has_test_part(self.torchvision) else None, self.options)
        else:
            part = self._whole(self.place, say)
        return part if self.keys is None else chosen(part, read_keys(self.keys), self.keys)

    def _own(self, say: Say) -> Parts:
        """Open the parts that a source has; all of it as `train` if it has none."""
        if self.shipped:
            return {"train": _SHIPPED[self.place]("train"), "test": _SHIPPED[self.place]("test")}
        if self.torchvision is not None:
            return self._own_of_torchvision(self.torchvision)
        if self.test is not None:
            return {"train": self._whole(self.place, say), "test": self._whole(self.test, say)}
        if is_list(self.place):
            return {"train": ListFile.open(self.place)}
        return self._own_of_folder(say)

    def _own_of_torchvision(self, name: str) -> Parts:
        options = for_test(name, self.options, self.test_options)
        if has_test_part(name) or names_part(name, self.test_options):
            parted: tuple[Split, Split] | tuple[None, None] = ("train", "test") if has_test_part(name) else (None, None)
            train = self._of_torchvision(parted[0], self.options)
            return {"train": train, "test": self._of_torchvision(parted[1], options)}
        return {"train": self._of_torchvision(None, self.options)}

    def _of_torchvision(self, split: Split | None, options: Mapping[str, str]) -> Source:
        return torchvision_dataset(str(self.torchvision), self.path, split, self.download, options, self.remedy)

    def _own_of_folder(self, say: Say) -> Parts:
        """Open the parts of a folder in one walk; report the recognised layout and the files that are left out."""
        images = ImageFolder.open(self.path)
        layout = images.layout
        for remark in images.remarks():
            say(f"{printable(self.place)}: {remark}")
        if layout.test is not None:
            return {split: images.part(split) for split in ("train", "test")}
        if layout.parts and self.hold_out and images.labelled and self.keys is None and self.test_keys is None:
            say(
                f"{printable(self.place)}: {self.hold_out:g} of the images in {printable(layout.train.folder)} are "
                "held out for testing; --hold-out 0 holds out none"
            )
        return {"train": images.part(None)}

    def _whole(self, place: str, say: Say) -> Source:
        """Open a list file or a folder that is one part."""
        if is_list(place):
            return ListFile.open(place)
        images = ImageFolder.open(os.path.expanduser(place))
        for remark in images.remarks():
            say(f"{printable(place)}: {remark}")
        return images.part(None)

    def _by_keys(self, own: Parts) -> Parts:
        """Choose by keys among the images of each part of the source; without such parts the other part is the rest."""
        found: Parts = dict(own)
        whole = own["train"]
        first = None if self.keys is None else chosen(whole, read_keys(self.keys), self.keys)
        if first is not None:
            found["train"] = first
        if "test" in own:
            return found | {"test": self._test_chosen(own["test"]) or own["test"]}
        second = self._test_chosen(whole)
        if first is not None and second is not None and (both := set(first.chosen) & set(second.chosen)):
            raise UserError(
                f"{len(both)} images are in {self.keys!r} and in {self.test_keys!r}, first {whole.key(min(both))!r}. "
                "Take them out of one of the files."
            )
        if second is not None:
            found |= {"train": rest(whole, second) if first is None else first, "test": second}
        elif first is not None and len(first) < len(whole):
            found["test"] = rest(whole, first)
        return found

    def _test_chosen(self, source: Source) -> Subset | None:
        if self.test_keys is None:
            return None
        return chosen(source, read_keys(self.test_keys, "test_keys"), self.test_keys)
