"""Settings of scoring: resolution, and BatchNorm as in the published codes."""

from copy import deepcopy

import pytest
import torch
from torch.nn.functional import cosine_similarity, cross_entropy, normalize

from hardviews.batch import View
from hardviews.errors import UserError
from hardviews.methods.each import each
from hardviews.methods.simsiam import SimSiamConfig
from hardviews.models.backbones import Backbone
from hardviews.objective.objective import Objective
from hardviews.strategies.compose import Chain, Sum
from hardviews.strategies.cutmix import CutMix
from hardviews.strategies.hard_views import HardViews
from hardviews.strategies.strategy import Clean
from hardviews.train.composition import check
from hardviews.train.recipe import Recipe, Training
from hardviews.train.trainer import Trainer
from hardviews.views.augmentation import Augmentation, Normalisation
from hardviews.views.pixels import Crops
from hardviews.views.plan import Slot
from hardviews.world import World
from tests.laws.cases import METHODS, NETWORKS, build, make_batch, state

TOGETHER = HardViews(4, normalise="together", move_statistics=True)


def hardness(objective: Objective) -> torch.Tensor:
    (term,) = objective.strategy(make_batch(objective), objective)
    assert term.batch.selection is not None and term.batch.selection.hardness is not None
    return term.batch.selection.hardness


def plain(objective: Objective) -> torch.nn.Module:
    """Return a copy of the method with torch's own BatchNorm."""
    method = deepcopy(objective.method)
    for parent in list(method.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, torch.nn.modules.batchnorm._BatchNorm):
                kind = torch.nn.BatchNorm2d if "bn" in name else torch.nn.BatchNorm1d
                norm = kind(child.num_features, child.eps, child.momentum, child.affine)
                norm.load_state_dict(child.state_dict())
                setattr(parent, name, norm)
    return method.train()


def pixels(objective: Objective) -> torch.Tensor:
    batch = make_batch(objective)
    return torch.cat([batch.views[slot].pixels() for slot in objective.plan.candidates])


def test_the_published_simsiam_scoring() -> None:
    """One forward pass of all candidates, normalised together; it moves the running statistics once."""
    objective = build("simsiam", TOGETHER)
    method = plain(objective)
    with torch.no_grad():
        z = method.projector(method.backbone(pixels(objective)))  # type: ignore[operator]
        p = method.predictor(z)  # type: ignore[operator]
    found = hardness(objective)
    z, p = z.view(4, 8, -1), p.view(4, 8, -1)
    table = objective.plan.assignments(objective.pairs).tolist()
    wanted = [-0.5 * (cosine_similarity(p[a], z[b], dim=1) + cosine_similarity(p[b], z[a], dim=1)) for a, b in table]
    torch.testing.assert_close(found, torch.stack(wanted), rtol=1e-5, atol=1e-6)
    moved = state(objective)
    for name, tensor in method.state_dict().items():
        torch.testing.assert_close(moved[f"method.{name}"], tensor, rtol=1e-5, atol=1e-6)


def test_the_published_simclr_scoring() -> None:
    objective = build("simclr", TOGETHER)
    method = plain(objective)
    with torch.no_grad():
        z = normalize(method.projector(method.backbone(pixels(objective))), dim=1).view(4, 8, -1)  # type: ignore[operator]
    found = hardness(objective)
    wanted = []
    for a, b in objective.plan.assignments(objective.pairs).tolist():
        both = torch.cat([z[a], z[b]])
        logits = (both @ both.T / 0.2).fill_diagonal_(-torch.inf)
        losses = cross_entropy(logits, torch.arange(16).roll(8), reduction="none")
        wanted.append((losses[:8] + losses[8:]) / 2)
    torch.testing.assert_close(found, torch.stack(wanted), rtol=1e-5, atol=1e-6)


def test_view_by_view_is_another_hardness() -> None:
    assert not torch.allclose(hardness(build("simsiam", HardViews(4))), hardness(build("simsiam", TOGETHER)), rtol=1e-3)


@pytest.mark.parametrize("normalise", ["view", "together"])
@pytest.mark.parametrize("move", [False, True])
def test_statistics_move_only_with_the_setting(normalise: str, move: bool) -> None:
    objective = build("simsiam", HardViews(4, normalise=normalise, move_statistics=move))  # type: ignore[arg-type]
    before = state(objective)
    hardness(objective)
    moved = {name for name, tensor in state(objective).items() if not torch.equal(before[name], tensor)}
    assert bool(moved) == move
    assert all("running" in name or "num_batches" in name for name in moved)
    counted = [tensor for name, tensor in state(objective).items() if name.endswith("backbone.bn1.num_batches_tracked")]
    assert counted == [{"view": 4, "together": 1}[normalise] if move else 0]


@pytest.mark.parametrize("method", METHODS)
def test_methods_that_encode_view_by_view_refuse(method: str) -> None:
    made = build(method, Clean()).method
    # Without BatchNorm there is nothing to normalise together.
    if made.joins_views or not _normalises(made):
        build(method, TOGETHER)
        return
    with pytest.raises(UserError, match=r'cannot be normalised together.*normalise="view"'):
        build(method, Chain(TOGETHER, Clean()))
    if not _normalises(build(method, Clean(), "vit").method):
        build(method, TOGETHER, "vit")


def _normalises(method: torch.nn.Module) -> bool:
    return any(isinstance(m, torch.nn.modules.batchnorm._BatchNorm) for m in method.modules())


def test_each_joins_inputs_of_one_shape() -> None:
    norm = torch.nn.BatchNorm1d(3, affine=False)
    big, small = torch.randn(2, 4, 3, 5), torch.randn(4, 3, 2)
    inputs = {"a": big[0], "small": small, "b": big[1]}
    apart, joined = each(norm, inputs.items()), each(norm, inputs.items(), together=True)
    assert set(joined) == set(inputs)
    torch.testing.assert_close(torch.cat([joined["a"], joined["b"]]), norm(big.flatten(0, 1)))
    assert torch.equal(joined["small"], apart["small"])
    assert not torch.allclose(joined["a"], apart["a"])


# Resolution


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("method", METHODS)
def test_any_method_scores_smaller(method: str, network: str) -> None:
    """Masks shrink with their views."""
    objective = build(method, HardViews(4, size=8), network)
    assert hardness(objective).isfinite().all()


def test_sizes_that_no_patch_fits_are_refused_at_once() -> None:
    with pytest.raises(UserError, match=r"SimSiam cannot train under HardViews: at size=12 .* multiple of 8"):
        build("simsiam", Sum((1.0, HardViews(4, size=12))), "vit")
    build("simsiam", HardViews(4, size=12), "batchnorm")
    # No smaller than the views: nothing is shrunk.
    build("simsiam", HardViews(4, size=20), "vit")
    with pytest.raises(UserError, match=r"^HardViews\.size is 0; it must be 1 or more"):
        HardViews(4, size=0)


def test_networks_of_a_fixed_size_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from timm.models.vision_transformer import VisionTransformer

    from tests.laws.cases import Network

    def fixed() -> torch.nn.Module:
        return VisionTransformer(img_size=16, patch_size=8, num_classes=0, embed_dim=32, depth=1, num_heads=2)

    monkeypatch.setitem(NETWORKS, "fixed", Network(fixed, 32))
    build("simsiam", HardViews(4), "fixed")
    with pytest.raises(UserError, match=r"views of 16 pixels alone.*dynamic_img_size"):
        build("simsiam", HardViews(4, size=8), "fixed")


@pytest.mark.parametrize(
    ("name", "own", "size", "bears"),
    [
        ("convnext_atto", 64, 16, False),  # a 2x2 convolution of a single pixel
        ("convnext_atto", 64, 32, True),
        ("maxvit_rmlp_pico_rw_256", 256, 128, False),  # windows of 8 do not tile it
        ("swin_tiny_patch4_window7_224", 224, 112, False),
        ("mobilenetv3_small_050", 64, 16, True),
        ("efficientnet_b0", 64, 24, True),
        ("sequencer2d_s", 64, 32, True),  # patches of 7 that leave some pixels over
    ],
)
def test_networks_are_tried_at_the_size(name: str, own: int, size: int, bears: bool) -> None:
    """Before a step, and without a forward pass of numbers, which would change state."""
    backbone = Backbone(name)
    view = Augmentation(size=own)
    method = SimSiamConfig(width=16, layers=2, bottleneck=8, view=view).build(backbone.build(), backbone.num_features)
    method.train()
    before = {n: t.clone() for n, t in method.state_dict().items()}
    if bears:
        check(method, HardViews(4, size=size), Training())
    else:
        with pytest.raises(UserError, match=f"SimSiam cannot train under HardViews: at size={size} "):
            check(method, HardViews(4, size=size), Training())
    assert all(module.training for module in method.modules())
    assert all(torch.equal(before[n], t) for n, t in method.state_dict().items() if n in before)


@pytest.mark.parametrize(
    ("name", "size", "advised"),
    [
        ("test_resnet", 32, "last map has one pixel of such a view. Choose 48 or more"),
        ("test_resnet", 33, None),
        ("test_resnet", 64, "no view is larger than 64 pixels"),
        ("test_small", 24, "Views of 32 pixels are too small to be scored at a lower resolution: leave size out"),
        ("test_vit", 48, "sees 9 patches of such a view. Choose 64 or more"),
        ("test_vit", 64, None),
    ],
)
def test_sizes_that_leave_too_little_to_compare_are_advised_against(
    name: str, size: int, advised: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    """A remark at the start of the training, on one rank; it trains all the same."""
    name, side = {"test_resnet": (name, 64), "test_vit": (name, 96), "test_small": ("test_resnet", 32)}[name]
    config = SimSiamConfig(width=16, layers=2, bottleneck=8, view=Augmentation(size=side))
    strategy = Chain(HardViews(4, size=size), CutMix())
    recipe = Recipe("advised", config, Backbone(name), strategy, Training(batch=8, group=4))
    Trainer(recipe, World(0, 1, torch.device("cpu")))
    said = [record.message for record in caplog.records if "HardViews.size" in record.message]
    assert [f"HardViews.size is {size}" in message and advised in message for message in said if advised] == (
        [True] if advised else []
    )
    assert bool(said) == bool(advised)


def view_with(mask: torch.Tensor, size: int) -> View:
    crops = Crops(torch.zeros(len(mask), 3, size, size), Normalisation())
    return View(Slot("view", 0), crops, Normalisation(), mask=mask)


@pytest.mark.parametrize("dtype", [torch.bool, torch.float32])
def test_masks_shrink_with_their_views(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    mask = (torch.rand(500, 14 * 14, generator=generator) < 0.3).to(dtype)
    view = view_with(mask, 224)
    smaller = view.at(112, 224)
    assert smaller.mask is not None
    assert smaller.mask.shape == (500, 7 * 7) and smaller.mask.dtype == dtype
    assert smaller.mask.float().mean() == pytest.approx(0.3, abs=0.02)
    # The nearest of each two by two.
    assert torch.equal(smaller.mask.view(-1, 7, 7), mask.view(-1, 14, 14)[:, 1::2, 1::2])
    # A block stays a block.
    block = torch.zeros(1, 14, 14, dtype=dtype)
    block[:, 4:10, 2:8] = 1
    shrunk = view_with(block.flatten(1), 224).at(112, 224).mask
    assert shrunk is not None
    wanted = torch.zeros(1, 7, 7, dtype=dtype)
    wanted[:, 2:5, 1:4] = 1
    assert torch.equal(shrunk.view(1, 7, 7), wanted)
    same = view.at(224, 224).mask
    assert same is not None and torch.equal(same, mask)


def test_masks_that_cannot_shrink_are_refused() -> None:
    with pytest.raises(UserError, match="multiple of a patch"):
        view_with(torch.zeros(1, 196), 224).at(100, 224)
    with pytest.raises(UserError, match="square grid"):
        view_with(torch.zeros(1, 195), 224).at(112, 224)
