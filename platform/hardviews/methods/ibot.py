"""iBOT: DINO on the class token, and a student that predicts its teacher's outputs for patches that it does not see.

Zhou et al., "iBOT: Image BERT Pre-Training with Online Tokenizer" (ICLR 2022, arXiv 2111.07832), section 3 and
algorithm 1. The settings come from the authors' scripts.

Shape legend: B samples of this rank, D bottleneck, F features, N patches, P pairs, R masked patches.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from math import isqrt
from typing import NamedTuple

import torch
from torch import Tensor, nn

from hardviews.batch import Batch, Mix, Samples, View
from hardviews.checked import above, at_least, require, within
from hardviews.clock import Clock
from hardviews.encoded import Encoded
from hardviews.errors import UserError
from hardviews.methods.centre import Centre
from hardviews.methods.dino import DINO, EVEN, ODD, DINOConfig, warmed_up
from hardviews.methods.dino_head import DINOHead, LastLayer
from hardviews.methods.each import batches
from hardviews.methods.method import Method
from hardviews.methods.self_distillation import Comparison
from hardviews.models.masked_vit import check_sizes, patch_size, tokens
from hardviews.views.augmentation import Augmentation, dino_global1, dino_global2, dino_local
from hardviews.views.masks import BlockMasks
from hardviews.views.plan import Pair, Slot

PATCH = "patch"  # the kind of pair of a view with itself


@dataclass(frozen=True)
class IBOTConfig(DINOConfig):
    """iBOT's masks and losses, and DINO's settings; the defaults are for a ViT-S/16 on ImageNet for 800 epochs.

    Attributes:
        outputs: number of outputs of the last layer.
        teacher_temperature: temperature of the teacher's outputs for the class token, after the warm-up.
        warm_up: epochs of the teacher's warm-up, linear; 0 for none.
        patch_temperature: temperature of the teacher's outputs for patches, after the warm-up.
        first_patch_temperature: temperature of the teacher's outputs for patches in the first epoch of a warm-up.
        patch_centre_momentum: momentum of the centre of the teacher's outputs for patches.
        shared_head: whether class token and patches share one last layer; otherwise each has one over the same MLP.
        shared_head_teacher: whether the teacher has one last layer, a moving average of the class token's, even if the
            student has two. This is the default of the authors' scripts.
        class_weight: weight of the loss of the class token.
        patch_weight: weight of the loss of masked patches.
        masks: distribution of the masked patches.
        locals: number of small views, which the student alone sees.
        even: distribution of the first full-size view.
        odd: distribution of the second full-size view.
        local: distribution of the small views.
    """

    outputs: int = 8192
    teacher_temperature: float = 0.07
    warm_up: int = 30
    patch_temperature: float = 0.07
    first_patch_temperature: float = 0.04
    patch_centre_momentum: float = 0.9
    shared_head: bool = True
    shared_head_teacher: bool = False
    class_weight: float = 1.0
    patch_weight: float = 1.0
    masks: BlockMasks = field(default_factory=BlockMasks)
    locals: int = 10
    even: Augmentation = field(default_factory=partial(dino_global1, scale=(0.25, 1.0)))
    odd: Augmentation = field(default_factory=partial(dino_global2, scale=(0.25, 1.0)))
    local: Augmentation = field(default_factory=partial(dino_local, scale=(0.05, 0.25)))

    def __post_init__(self) -> None:
        """Refuse numbers without a meaning."""
        super().__post_init__()
        require(
            self,
            "method",
            patch_temperature=above(0),
            first_patch_temperature=above(0),
            patch_centre_momentum=within(0, 1),
            class_weight=at_least(0),
            patch_weight=at_least(0),
        )
        if not self.class_weight and not self.patch_weight:
            raise UserError("IBOT has class_weight=0 and patch_weight=0, which leaves no loss: give one a weight.")

    def build(self, backbone: nn.Module, features: int) -> "IBOT":
        """Build the method over a vision transformer of that many features."""
        return IBOT(self, backbone, features)


class Seen(NamedTuple):
    """The student's encoding of a view: unit embeddings of the class token (B, D) and of masked patches (R, D).

    `masked` (B, N) marks these patches. N is 0 for views without a mask.
    """

    embedding: Tensor
    patches: Tensor
    masked: Tensor


class Shown(NamedTuple):
    """The teacher's encoding of a view: unit embeddings of the class token (B, D) and of all patches (B, N, D)."""

    embedding: Tensor
    patches: Tensor


class IBOTHead(DINOHead):
    """DINO's head, with one last layer for all tokens or another one for patches."""

    def __init__(self, features: int, config: IBOTConfig) -> None:
        super().__init__(
            features,
            config.hidden,
            config.bottleneck,
            config.outputs,
            layers=config.layers,
            unit=config.norm_last_layer,
            batchnorm=config.batchnorm,
        )
        self.patch_last = (
            None if config.shared_head else LastLayer(config.bottleneck, config.outputs, config.norm_last_layer)
        )

    @property
    def for_patches(self) -> LastLayer:
        """The last layer that patches go through."""
        return self.patch_last or self.last


class IBOT(DINO):
    """DINO's loss between views, and the same loss between a masked view's patches and the unmasked view's."""

    blends = False
    shares_features = False  # its views are masked
    config: IBOTConfig
    head: IBOTHead

    def __init__(self, config: IBOTConfig, backbone: nn.Module, features: int) -> None:
        """Add head, teacher, centres and the mask's token to the backbone.

        Raises:
            UserError: the backbone is not a vision transformer whose patches can be masked.
        """
        patch = patch_size(backbone, "iBOT")
        masked = {"even": config.even.size, "odd": config.odd.size}
        check_sizes(backbone, masked | ({"local": config.local.size} if config.locals else {}), "iBOT")
        super().__init__(config, backbone, features)
        self.mix_grid = patch
        self.grids = {name: (size // patch, size // patch) for name, size in masked.items()}
        self.mask_token = nn.Parameter(torch.zeros(1, features))
        self.patch_centre = Centre(config.outputs, config.patch_centre_momentum)
        if config.shared_head_teacher:
            self._teachers_head().patch_last = None

    def _head(self, features: int) -> IBOTHead:
        return IBOTHead(features, self.config)

    def pairs(self) -> tuple[Pair, ...]:
        """Return DINO's pairs, and each masked view with itself."""
        config = self.config
        between = [replace(pair, weight=config.class_weight * pair.weight) for pair in super().pairs()]
        return *between, *(Pair(view, view, config.patch_weight / 2, PATCH) for view in (EVEN, ODD))

    def mask(self, slot: Slot, number: int, clock: Clock, position: Tensor) -> Tensor | None:
        """Return a mask (B, N) of the patches of a full-size view that the student does not see."""
        grid = self.grids.get(slot.pool)
        return None if grid is None else self.config.masks.draw(grid, clock, position, number)

    def frozen(self, clock: Clock) -> Sequence[nn.Module]:
        """Return the last layers, in the first epochs."""
        last = dict.fromkeys((self.head.last, self.head.for_patches))
        return tuple(last) if clock.epoch < self.config.freeze else ()

    def encode(self, batch: Batch, online: Sequence[Slot], target: Sequence[Slot]) -> Encoded:
        """Return the student's encodings of masked views online (`Seen`), and the teacher's of whole ones (`Shown`)."""
        return Encoded(
            self._seen({slot: batch.online(slot) for slot in online}),
            self._shown({slot: batch.views[slot] for slot in target}),
        )

    def _seen(self, views: Mapping[Slot, View]) -> dict[Slot, Seen]:
        found: dict[Slot, Seen] = {}
        for slots, pixels, mask_BN in batches(views, self.by_row):
            made = tokens(self.backbone, pixels, self.mask_token, mask_BN)
            parts = zip(slots, self.head(made.features).chunk(len(slots)), made.patches.chunk(len(slots)), strict=True)
            for slot, embeddings_BD, patches_BNF in parts:
                patches_RD, masked_BN = self._masked(patches_BNF, views[slot].mask)
                found[slot] = Seen(embeddings_BD, patches_RD, masked_BN)
        return {slot: found[slot] for slot in views}

    def _masked(self, patches_BNF: Tensor, mask_BN: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return unit embeddings (R, D) of the masked patches of a view, and the mask (B, N)."""
        if mask_BN is None:
            none_BN = torch.zeros(len(patches_BNF), 0, dtype=torch.bool, device=patches_BNF.device)
            return torch.zeros(0, self.config.bottleneck, device=patches_BNF.device), none_BN
        masked_BN = mask_BN.bool()
        if self.config.batchnorm:  # normalises by all patches, also by unread ones
            return self._patches(self.head, patches_BNF)[masked_BN], masked_BN
        # Only masked patches, about one in seven: this is worth the wait for their number.
        return self.head(patches_BNF[masked_BN]), masked_BN

    @torch.no_grad()
    def _shown(self, views: Mapping[Slot, View]) -> dict[Slot, Shown]:
        found: dict[Slot, Shown] = {}
        head = self._teachers_head()
        for slots, pixels, _ in batches(views, self.by_row):
            made = tokens(self.momentum.get_submodule("backbone"), pixels)
            sides = head(made.features).chunk(len(slots)), self._patches(head, made.patches).chunk(len(slots))
            found.update(zip(slots, map(Shown, *sides), strict=True))
        return {slot: found[slot] for slot in views}

    @staticmethod
    def _patches(head: DINOHead, patches_BNF: Tensor) -> Tensor:
        embeddings_BND: Tensor = head(patches_BNF.flatten(0, 1)).unflatten(0, patches_BNF.shape[:2])
        return embeddings_BND

    def pair_losses(
        self, batch: Batch, online: Mapping[Slot, Seen], target: Mapping[Slot, Shown], pairs: Sequence[Pair]
    ) -> Tensor:
        """Return the cross-entropies (P, B) between views, and their means over the masked patches of a view."""
        between = [pair for pair in pairs if pair.kind != PATCH]
        losses: dict[Pair, Tensor] = {}
        if between:
            found_PB = super().pair_losses(batch, embeddings(online), embeddings(target), between)
            losses.update(zip(between, found_PB, strict=True))
        comparison = self._patch_comparison(batch.clock)
        for pair in pairs:
            if pair.kind == PATCH:
                losses[pair] = patch_losses(comparison, online[pair.online], target[pair.target].patches)
        return torch.stack([losses[pair] for pair in pairs])

    def mixed_loss(
        self, batch: Batch, online: Mapping[Slot, Seen], target: Mapping[Slot, Shown], pair: Pair, mix: Mix
    ) -> Tensor:
        """Return the loss (B,) of a mixed view: a patch predicts the target of the image that it comes from."""
        if pair.kind != PATCH:
            return super().mixed_loss(batch, embeddings(online), embeddings(target), pair, mix)
        if mix.box is None:  # refused as a strategy, but defined: the label is a distribution
            return Method.mixed_loss(self, batch, online, target, pair, mix)
        own_BND = target[pair.target].patches
        other_BND = own_BND[mix.partner.to(own_BND.device, non_blocking=True)]
        pasted_BN = under_box(mix.box.to(own_BND.device, non_blocking=True), own_BND.shape[1], self.mix_grid)
        patches_BND = torch.where(pasted_BN[..., None], other_BND, own_BND)
        return patch_losses(self._patch_comparison(batch.clock), online[pair.online], patches_BND)

    def scores(
        self, batch: Batch, online: Mapping[Slot, Seen], target: Mapping[Slot, Shown], pair: Pair
    ) -> tuple[Tensor, Tensor] | None:
        """Return DINO's scores of a pair of views; None for a view's patches, which have a label each."""
        if pair.kind == PATCH:
            return None
        return super().scores(batch, embeddings(online), embeddings(target), pair)

    def _patch_comparison(self, clock: Clock) -> Comparison:
        config = self.config
        return Comparison(
            self.head.for_patches.weights(),
            self._teachers_head().for_patches.weights().detach(),
            self.patch_centre.mean,
            config.student_temperature,
            warmed_up(config.first_patch_temperature, config.patch_temperature, config.warm_up, clock.epoch),
        )

    def _teachers_head(self) -> IBOTHead:
        head = super()._teachers_head()
        assert isinstance(head, IBOTHead)
        return head

    @torch.no_grad()
    def update(self, encoded: Encoded, clock: Clock, samples: Samples) -> None:
        """Move both centres by the teacher's outputs (patches: all of them), then the teacher."""
        patches_RD = torch.cat([encoded.target[slot].patches.flatten(0, 1) for slot in (EVEN, ODD)])
        self.patch_centre.follow(patches_RD, self._teachers_head().for_patches.weights())
        super().update(Encoded({}, embeddings(encoded.target)), clock, samples)


def embeddings(side: Mapping[Slot, Seen] | Mapping[Slot, Shown]) -> dict[Slot, Tensor]:
    """Return the class token's embeddings by slot."""
    return {slot: made.embedding for slot, made in side.items()}


def patch_losses(comparison: Comparison, online: Seen, target_BND: Tensor) -> Tensor:
    """Return the mean cross-entropy (B,) over each sample's masked patches, 0 where none is masked."""
    masked_BN = online.masked
    places_R = masked_BN.flatten().nonzero().squeeze(1)
    target_RD = target_BND[:, : masked_BN.shape[1]].flatten(0, 1)[places_R]
    losses_R = comparison.row_losses(online.patches, target_RD)
    losses_BN = losses_R.new_zeros(masked_BN.numel()).index_copy(0, places_R, losses_R).view(masked_BN.shape)
    return losses_BN.sum(1) / masked_BN.sum(1).clamp(min=1)


def under_box(box_B4: Tensor, patches: int, side: int) -> Tensor:
    """Return a mask (B, N) of the patches of a square view with their middle inside a box in pixels."""
    middle = (torch.arange(isqrt(patches), device=box_B4.device) + 0.5) * side
    top, left, bottom, right = (box_B4[:, i, None] for i in range(4))
    rows_BH, columns_BW = (middle >= top) & (middle < bottom), (middle >= left) & (middle < right)
    return (rows_BH[:, :, None] & columns_BW[:, None, :]).flatten(1)
