import pytest
import torch
from sklearn.linear_model import LogisticRegression

from hardviews.errors import UserError
from hardviews.evaluation.features import Features
from hardviews.evaluation.linear import Linear, fit_probe
from hardviews.evaluation.protocol import top


def problem(n=240, d=6, classes=4, noise=1.0, seed=0):
    """Gaussian classes of unequal scales, and their test set."""
    generator = torch.Generator().manual_seed(seed)
    centres = torch.randn(classes, d, generator=generator) * 2
    scale = torch.logspace(-2, 2, d)

    def draw(count):
        labels = torch.randint(0, classes, (count,), generator=generator)
        values = centres[labels] + noise * torch.randn(count, d, generator=generator)
        return Features(values * scale + 5, labels)

    return draw(n), draw(n)


def fit(train, test, **options):
    return fit_probe(Linear("run", **options), train, test, classes=4)


@pytest.mark.parametrize("solver", ["lbfgs", "sgd"])
def test_same_seed_same_result_bit_for_bit_and_no_global_random_numbers(solver):
    train, test = problem()
    first = fit(train, test, solver=solver, epochs=5)
    before = torch.get_rng_state()
    second = fit(train, test, solver=solver, epochs=5)
    assert torch.equal(before, torch.get_rng_state())
    assert torch.equal(first.scores_ML, second.scores_ML) and first.held_out_R == second.held_out_R
    other = fit(train, test, solver=solver, epochs=5, seed=1)
    assert other.held_out_R != first.held_out_R or not torch.equal(other.scores_ML, first.scores_ML)


@pytest.mark.parametrize("solver", ["lbfgs", "sgd"])
def test_finds_what_separates_the_classes_whatever_their_scale(solver):
    train, test = problem(noise=0.3)
    probe = fit(train, test, solver=solver, epochs=30)
    assert top(1, probe.scores_ML, test.labels_N) > 97
    assert len(probe.top1_E) == (1 if solver == "lbfgs" else 30)
    assert probe.top1_E[-1] == pytest.approx(top(1, probe.scores_ML, test.labels_N))


def test_lbfgs_equals_scikit_learn():
    train, test = problem()
    probe = fit(train, test, solver="lbfgs", penalties=(1e-2,))
    mean, std = train.values_ND.mean(0), train.values_ND.std(0, correction=0)
    x, y = ((f.values_ND - mean) / std for f in (train, test))
    # scikit-learn minimises C * sum of losses + |w|^2 / 2.
    other = LogisticRegression(C=1 / (1e-2 * len(train)), max_iter=2000, tol=1e-8).fit(x.double(), train.labels_N)
    expected = torch.from_numpy(other.predict_proba(y.double()))
    torch.testing.assert_close(probe.scores_ML.softmax(1), expected, atol=2e-3, rtol=0)


def test_sgd_side_by_side_equals_each_rate_alone():
    train, test = problem()
    rates = (0.01, 0.3)
    together = fit(train, test, solver="sgd", epochs=4, rates=rates)
    alone = [fit(train, test, solver="sgd", epochs=4, rates=(rate,)) for rate in rates]
    assert together.held_out_R == pytest.approx([probe.held_out_R[0] for probe in alone])
    best = alone[rates.index(together.choice)]
    torch.testing.assert_close(together.scores_ML, best.scores_ML)


def test_sgd_equals_torchs_optimizer_for_one_batch():
    train, test = problem(64)
    probe = fit(train, test, solver="sgd", epochs=6, rates=(0.2,), sgd_batch=64, standardise=False)
    generator = torch.Generator().manual_seed(1)
    layer = torch.nn.Linear(6, 4)
    with torch.no_grad():
        layer.weight.copy_((torch.randn(6, 4, generator=generator) * 0.01).T)
        layer.bias.zero_()
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.2 * 64 / 256, momentum=0.9)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 6)
    for _ in range(6):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(layer(train.values_ND), train.labels_N).backward()
        optimizer.step()
        schedule.step()
    torch.testing.assert_close(probe.scores_ML, layer(test.values_ND).detach(), atol=1e-2, rtol=1e-4)


def test_choice_never_sees_the_test_set():
    train, test = problem(noise=3.0)
    shuffled = Features(test.values_ND, test.labels_N.flip(0))
    for solver in ("lbfgs", "sgd"):
        a, b = (fit(train, t, solver=solver, epochs=5) for t in (test, shuffled))
        assert a.choice == b.choice and a.held_out_R == b.held_out_R
        assert torch.equal(a.scores_ML, b.scores_ML)


def test_a_rate_that_diverges_is_not_chosen():
    train, test = problem()
    probe = fit(train, test, solver="sgd", epochs=10, rates=(3e38, 0.1))
    assert probe.choice == 0.1 and probe.held_out_R[0] == 0.0


def test_rates_that_all_overflow_are_told():
    with pytest.raises(UserError, match=r"overflow at every learning rate .* lower --rates"):
        fit(*problem(noise=0.6), solver="sgd", epochs=10, rates=(2e38, 3e38))


def test_constant_features_do_no_harm():
    train, test = problem(noise=0.3)
    wide = [Features(torch.cat([f.values_ND, torch.full((len(f), 3), 7.0)], 1), f.labels_N) for f in (train, test)]
    assert top(1, fit(*wide, solver="lbfgs").scores_ML, test.labels_N) > 97


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"rates": ()}, "rates"),
        ({"rates": (0.1, float("nan"))}, "rates"),
        ({"rates": (float("inf"),)}, "rates"),
        ({"penalties": ()}, "penalties"),
        ({"penalties": (0.0,)}, "penalties"),
        ({"penalties": (float("nan"), 0.1)}, "penalties"),
        ({"momentum": -0.1}, "momentum"),
        ({"momentum": 1.0}, "momentum"),
        ({"momentum": float("nan")}, "momentum"),
        ({"batch_size": 0}, "--batch-size is 0"),
        ({"held_out": 1.0}, "--held-out is 1.0"),
        ({"epochs": 0}, "epochs"),
        ({"seed": -1}, "seed"),
        ({"seed": 2**64}, "seed"),
    ],
)
def test_impossible_options_are_named(options, word):
    with pytest.raises(UserError, match=word):
        Linear("run", **options)


def test_one_sample_is_too_few():
    train, test = problem(1)
    with pytest.raises(UserError, match="too few"):
        fit(train, test)
