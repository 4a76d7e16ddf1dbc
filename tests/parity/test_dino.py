"""DINO and its head against lightly's, and against outputs written out."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lightly.loss import DINOLoss
from lightly.models.modules.heads import DINOProjectionHead
from torch import Tensor, nn
from torch.nn.functional import normalize

from hardviews.batch import Batch, Samples, View
from hardviews.clock import Clock
from hardviews.methods import self_distillation
from hardviews.methods.dino import DINO, EVEN, ODD, DINOConfig
from hardviews.methods.dino_head import DINOHead
from hardviews.models.noise import without_noise
from hardviews.objective.objective import Objective
from hardviews.strategies.cutmix import CutMix
from hardviews.strategies.strategy import Clean, Strategy
from hardviews.views.augmentation import Normalisation
from hardviews.views.pixels import Crops
from hardviews.views.plan import Slot
from tests.laws.cases import NETWORKS, build, make_batch
from tests.parity.plain import SIDE, WIDTH

TOLERANCE = 1e-6  # in double precision, but for lightly's temperature, which is a single


def without_network(config: DINOConfig, strategy: Strategy | None = None) -> tuple[Objective, DINO]:
    """Build DINO over pixels in place of features, with another teacher than the student, in double precision."""
    method = replace(config, bottleneck=WIDTH, hidden=8).build(nn.Flatten(), WIDTH)
    method.head.mlp = nn.Identity()  # type: ignore[assignment]
    teacher = method._teachers_head()
    teacher.mlp = nn.Identity()  # type: ignore[assignment]
    nn.init.normal_(teacher.last.weight)
    nn.init.normal_(method.centre.mean, std=0.3)
    return Objective(method, strategy or Clean()).train().double(), method


def pixels_of(samples: int, locals_: int, seed: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randn(2 + locals_, samples, 3, SIDE, SIDE, generator=generator, dtype=torch.float64)
    return [view.requires_grad_() for view in (pixels + 2 * pixels[:1]).unbind()]


def batch_of(pixels: list[Tensor], epoch: int = 0) -> Batch:
    normalisation = Normalisation()
    slots = [EVEN, ODD, *(Slot("local", k) for k in range(len(pixels) - 2))]
    views = {
        slot: View(slot, Crops(tensor, normalisation), normalisation, target=slot in (EVEN, ODD))
        for slot, tensor in zip(slots, pixels, strict=True)
    }
    position = torch.arange(len(pixels[0]))
    return Batch(views, Clock(0, epoch, 0, 0, 1), Samples(position, position), group=4)


def outputs(method: DINO, pixels: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
    """Return the outputs of the teacher and the student."""
    rows = [normalize(view.flatten(1), dim=1) for view in pixels]
    student, teacher = method.head.last, method._teachers_head().last
    lengths = 1.0 if student.length is None else student.length
    weights = normalize(student.weight, dim=1) * lengths
    return [row.detach() @ normalize(teacher.weight, dim=1).T for row in rows[:2]], [row @ weights.T for row in rows]


def lightly(method: DINO, pixels: list[Tensor], epoch: int) -> tuple[Tensor, DINOLoss]:
    config = method.config
    loss = DINOLoss(
        config.outputs,
        config.first_teacher_temperature,
        config.teacher_temperature,
        config.warm_up,
        config.student_temperature,
        config.centre_momentum,
    )
    loss.center = method.centre.mean.detach().clone()[None, None]
    total: Tensor = loss(*outputs(method, pixels), epoch=epoch)
    return total, loss


def assert_equal_step(ours: Tensor, theirs: Tensor, leaves: tuple[Tensor, ...]) -> None:
    torch.testing.assert_close(ours, theirs, rtol=TOLERANCE, atol=TOLERANCE)
    wanted = torch.autograd.grad(theirs, leaves, retain_graph=True)
    for got, want in zip(torch.autograd.grad(ours, leaves, retain_graph=True), wanted, strict=True):
        torch.testing.assert_close(got, want, rtol=1e-5, atol=TOLERANCE)


@settings(deadline=None, max_examples=25)
@given(
    samples=st.integers(1, 20),
    locals_=st.integers(0, 4),
    outputs_=st.integers(2, 60),
    student=st.sampled_from([0.1, 0.5]),
    teacher=st.sampled_from([0.04, 0.07]),
    warm_up=st.sampled_from([0, 1, 2, 30]),
    epoch=st.integers(0, 40),
    unit=st.booleans(),
    held=st.sampled_from([1, 50, 2**24]),
    seed=st.integers(0, 2**31),
)
def test_loss_and_centre(
    samples: int,
    locals_: int,
    outputs_: int,
    student: float,
    teacher: float,
    warm_up: int,
    epoch: int,
    unit: bool,
    held: int,
    seed: int,
) -> None:
    torch.manual_seed(seed)
    config = DINOConfig(
        outputs=outputs_,
        student_temperature=student,
        teacher_temperature=teacher,
        warm_up=warm_up,
        norm_last_layer=unit,
        locals=locals_,
    )
    objective, method = without_network(config)
    pixels = pixels_of(samples, locals_, seed)
    batch = batch_of(pixels, epoch)
    theirs, loss = lightly(method, pixels, epoch)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(self_distillation, "_HELD", held)
        losses_PB, encoded = objective.pairwise(batch)
        losses_B = objective.reduce(losses_PB)
        assert losses_B.shape == (samples,)
        leaves = (*pixels, *method.head.last.parameters())
        assert_equal_step(losses_B.mean(), theirs, leaves)
    method.update(encoded.detached(), batch.clock, batch.samples)
    torch.testing.assert_close(method.centre.mean, loss.center[0, 0], rtol=1e-9, atol=1e-12)


def test_a_fault_breaks_parity(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the centre the targets are others."""
    distribution = self_distillation._distribution
    monkeypatch.setattr(
        self_distillation, "_distribution", lambda rows, teacher, centre, t: distribution(rows, teacher, 0 * centre, t)
    )
    with pytest.raises(AssertionError):
        test_loss_and_centre.hypothesis.inner_test(8, 2, 10, 0.1, 0.04, 0, 0, True, 50, 0)  # type: ignore[attr-defined]


def test_every_pair_alone_is_the_pair_among_others() -> None:
    """And bit for bit, whatever the sizes: law 3 needs it."""
    for outputs_ in (7, 64, 300):
        objective, method = without_network(DINOConfig(outputs=outputs_, locals=3))
        objective.float()
        batch = batch_of([view.detach().float() for view in pixels_of(6, 3, outputs_)])
        losses_PB, encoded = objective.pairwise(batch)
        for p, pair in enumerate(objective.pairs):
            alone = method.pair_losses(batch, encoded.online, encoded.target, [pair])[0]
            assert torch.equal(alone, losses_PB[p])


def test_mixed_views_predict_mixed_distributions() -> None:
    objective, method = without_network(DINOConfig(outputs=12, locals=1), CutMix(scope="sample"))
    pixels = pixels_of(8, 1, 4)
    losses = objective(batch_of(pixels), 8)
    ((term, losses_B),) = losses.terms
    assert set(term.batch.mixes) == {EVEN, ODD}
    slots = list(term.batch.views)
    seen = [term.batch.online(slot).pixels() for slot in slots]
    taught, _ = outputs(method, pixels)
    _, put_out = outputs(method, seen)
    targets = [((row - method.centre.mean) / 0.04).softmax(1) for row in taught]
    wanted = torch.zeros(8, dtype=torch.float64)
    for q, shown in enumerate((EVEN, ODD)):
        for slot, row in zip(slots, put_out, strict=True):
            if slot != shown:
                target = targets[q]
                if slot in term.batch.mixes:
                    mix = term.batch.mixes[slot]
                    target = mix.weight[:, None] * target + (1 - mix.weight[:, None]) * target[mix.partner]
                wanted += -(target * (row / 0.1).log_softmax(1)).sum(1).detach() / 4
    torch.testing.assert_close(losses_B, wanted, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("unit", [True, False])
@pytest.mark.parametrize("batchnorm", [True, False])
def test_head(unit: bool, batchnorm: bool) -> None:
    torch.manual_seed(0)
    ours = DINOHead(10, 16, 6, 20, unit=unit, batchnorm=batchnorm)
    theirs = DINOProjectionHead(10, 16, 6, 20, batch_norm=batchnorm, norm_last_layer=unit)
    linear = [layer for layer in theirs.layers if isinstance(layer, nn.Linear)]
    for mine, other in zip((layer for layer in ours.mlp if isinstance(layer, nn.Linear)), linear, strict=True):
        other.load_state_dict(
            {name: tensor for name, tensor in mine.state_dict().items() if name in other.state_dict()}
        )
        mine.load_state_dict(other.state_dict() | ({} if other.bias is not None else {"bias": torch.zeros(16)}))
    theirs.last_layer.weight_v.data.copy_(ours.last.weight.data)
    if ours.last.length is not None:
        nn.init.uniform_(ours.last.length, 0.5, 2)
        theirs.last_layer.weight_g.data.copy_(ours.last.length.data)
    features = torch.randn(9, 10)
    torch.testing.assert_close(ours(features) @ ours.last.weights().T, theirs(features))
    # Drawn alike: a bottleneck layer of deviation 0.02, directions as of any linear layer.
    assert 0.01 < DINOHead(200, 100, 50, 40).mlp[0].weight.std() < 0.03
    assert DINOHead(200, 100, 50, 40).last.weight.abs().max() <= 50**-0.5


@pytest.mark.parametrize("network", NETWORKS)
def test_whole_step(network: str) -> None:
    """A step's loss and the gradient of every weight, against lightly's loss on the same network."""
    gradients = []
    for oracle in (False, True):
        objective = build("dino", Clean(), network).double()
        batch = make_batch(objective)
        views = {
            slot: replace(view, source=Crops(view.pixels().double(), view.normalisation))
            for slot, view in batch.views.items()
        }
        batch = replace(batch, views=views)
        method = objective.method
        assert isinstance(method, DINO)
        with without_noise(objective):
            if oracle:
                head, teacher = method.head, method._teachers_head()
                backbone = method.momentum.get_submodule("backbone")
                seen = [head(method.backbone(view.pixels())) @ head.last.weights().T for view in views.values()]
                with torch.no_grad():
                    shown = [teacher(backbone(views[s].pixels())) @ teacher.last.weights().T for s in (EVEN, ODD)]
                total = DINOLoss(method.config.outputs, 0.04, 0.04, 0)(shown, seen)
            else:
                total = objective(batch, len(batch)).total
        total.backward()
        gradients.append((total.detach(), {n: p.grad for n, p in method.named_parameters() if p.requires_grad}))
    (ours, our_grads), (theirs, their_grads) = gradients
    torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-6)
    for name, grad in their_grads.items():
        torch.testing.assert_close(our_grads[name], grad, rtol=1e-5, atol=1e-8, msg=lambda m, n=name: f"{n}: {m}")
