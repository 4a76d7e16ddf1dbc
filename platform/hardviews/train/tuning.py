"""The facts of a fine-tuning, for its record: the encoder, the labels, and the choice of its rates."""

from dataclasses import dataclass

from hardviews.tracking.notes import EXPERIMENT
from hardviews.train.rate_table import RateTable, Trial


@dataclass(frozen=True)
class Source:
    """The encoder of a fine-tuning, for the record of the run: a later life needs no more of it.

    Attributes:
        digest: digest of the encoder.
        run_id: its tracking run, empty if it has none.
        recipe: recipe of its training, empty if unknown.
        place: place in the first command, empty if unknown.
        labels: draw of labels, such as `10% seed 0`, empty if unknown.
    """

    digest: str
    run_id: str = ""
    recipe: str = ""
    place: str = ""
    labels: str = ""


@dataclass(frozen=True)
class Tuning:
    """The encoder and the labels of a fine-tuning.

    Attributes:
        encoder: encoder as it was given: a run's output, a file, an id, `timm:NAME`.
        source: the encoder itself.
        data: address of the data that labels were drawn from.
        labels: choice of labels, as in `--labels`; a published list with its checksum.
        seed: seed of their draw, None if nothing was drawn.
        images: number of labelled images.
        per_class: smallest and largest number of a class.
        rates: sweep that chose the rates, None for the recipe's rates.
    """

    encoder: str
    source: Source
    data: str
    labels: str
    seed: int | None
    images: int
    per_class: tuple[int, int]
    rates: RateTable | None = None

    @property
    def scarce(self) -> bool:
        """Whether some class has fewer labels than requested for each class."""
        asked = self.labels.removesuffix("-per-class")
        return asked != self.labels and self.per_class[0] < int(asked)

    @property
    def of_labels(self) -> str:
        """Return the labels in a phrase, such as `10% of the labels (144 images, 14 to 15 of each class, seed 0)`."""
        fewest, most = self.per_class
        each = f"{fewest}" if fewest == most else f"{fewest} to {most}"
        seed = "" if self.seed is None else f", seed {self.seed}"
        share = {"100%": "all labels"}.get(self.labels, self.labels).replace("-per-class", " labels per class")
        if self.scarce:
            share = f"at most {share}"
        share = f"{share} of the labels" if share.endswith("%") else share
        return f"{share} ({self.images:,} images, {each} of each class{seed})"

    def headline(self, learning_rate: float, head_rate: float) -> str:
        """Return one paragraph of Markdown: encoder, labels and rates.

        `learning_rate` and `head_rate` are the recipe's, used if none were chosen.
        """
        rates = Trial(learning_rate, head_rate, 0.0, None, 0).rates
        if self.rates is not None:
            best, count = self.rates.chosen, self.rates.held_out
            rates = f"{best.rates}, chosen on {count:,} held-out labels ({best.top1:.1f} % right)"
        return f"**Fine-tuned** from {self.of_encoder} on {self.of_labels}; {rates}."

    @property
    def of_encoder(self) -> str:
        """Return the encoder in Markdown: its recipe or place, with a link to its run."""
        name, run_id = f"`{self.source.recipe or self.encoder}`", self.source.run_id
        return f"[{name}](#/experiments/{EXPERIMENT}/runs/{run_id})" if run_id else name

    def section(self) -> str:
        """Return the full section about the beginning, for the page."""
        lines = [
            f"* Encoder: `{self.encoder}`" + (f" (recipe {self.of_encoder})" if self.source.recipe else ""),
            f"* Labels: {self.of_labels}, from `{self.data}`",
        ]
        if self.rates is not None:
            fitted, held_out = self.rates.fitted, self.rates.held_out
            lines += [
                f"* Rates: tried on {fitted:,} labels, judged on {held_out:,} others; the test set took no part",
                "",
            ]
            lines.append(self.rates.markdown())
        return "\n".join(lines)

    def tags(self) -> dict[str, str]:
        """Return tags of the tracking run."""
        found = {"hardviews.labels": self.labels, "hardviews.labels.images": str(self.images)}
        return found if self.seed is None else {**found, "hardviews.labels.seed": str(self.seed)}
