import pytest
import torch
from sklearn.linear_model import LogisticRegression

from hardviews.errors import UserError
from hardviews.evaluation.features.extract import Features
from hardviews.evaluation.probe import Grid, Task, mean_class, top
from hardviews.evaluation.probes import logistic
from hardviews.evaluation.probes.linear import Linear, fit_linear
from hardviews.evaluation.probes.logistic import solve
from hardviews.evaluation.probes.sweep import Head, Schedule, Standard, train_heads
from hardviews.world import ALONE


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


def fit(train, held_out=0.1, **options):
    held = torch.rand(len(train), generator=torch.Generator().manual_seed(7)) < held_out
    return fit_linear(Linear("run", **options), Task(train, held, 4, ALONE))


def scores(fitted, test):
    return fitted.predict(test)[""]


@pytest.mark.parametrize("solver", ["lbfgs", "sgd"])
def test_same_seed_same_result_bit_for_bit_and_no_global_random_numbers(solver):
    train, test = problem()
    first = fit(train, solver=solver, epochs=5)
    before = torch.get_rng_state()
    second = fit(train, solver=solver, epochs=5)
    assert torch.equal(before, torch.get_rng_state())
    assert torch.equal(scores(first, test), scores(second, test)) and first.choice == second.choice
    if solver == "sgd":
        assert not torch.equal(scores(fit(train, solver=solver, epochs=5, seed=1), test), scores(first, test))


@pytest.mark.parametrize("solver", ["lbfgs", "sgd"])
def test_finds_the_classes_whatever_the_scale_of_features(solver):
    train, test = problem(noise=0.3)
    fitted = fit(train, solver=solver, epochs=30)
    assert top(1, scores(fitted, test), test.labels_N) > 97
    assert fitted.peek(test) >= top(1, scores(fit(train, solver=solver, epochs=30, refit="no"), test), test.labels_N)


@pytest.mark.parametrize("penalty", [1e-1, 1e-2, 1e-4])
def test_logistic_regression_equals_scikit_learn(penalty):
    train, test = problem(noise=2.0)
    rows = torch.arange(len(train))
    standard = Standard.of(train.values_ND, rows)
    ours = solve([penalty], train, rows, 4, standard, ALONE)[0]
    # scikit-learn minimises C * sum of losses + |w|^2 / 2.
    theirs = LogisticRegression(C=1 / (penalty * len(train)), max_iter=10000, tol=1e-10)
    theirs.fit(standard(train.values_ND).double(), train.labels_N)
    torch.testing.assert_close(ours.weight_DL.T, torch.from_numpy(theirs.coef_), atol=1e-4, rtol=0)
    predicted = torch.from_numpy(theirs.predict(standard(test.values_ND).double()))
    assert torch.equal(ours.scores(test.values_ND).argmax(1), predicted)


@pytest.mark.parametrize("kept", [True, False])
@pytest.mark.parametrize("penalty", [1e-1, 1e-3, 1e-5])
def test_more_features_than_samples_equal_scikit_learn_too(penalty, kept, monkeypatch):
    """The optimum is a combination of the samples, so it is sought along as many axes; features are not centred."""
    if not kept:
        monkeypatch.setattr(logistic, "_KEPT", 0)
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 3, (40,), generator=generator)
    values = torch.rand(40, 150, generator=generator) + 0.3 * labels[:, None] * torch.rand(150, generator=generator)
    train, rows = Features(values, labels), torch.arange(40)
    plain = Standard.of(values, rows, on=False)
    ours = solve([1.0, penalty], train, rows, 3, plain, ALONE)[1]
    theirs = LogisticRegression(C=1 / (penalty * 40), max_iter=100_000, tol=1e-12)
    theirs.fit(values.double(), labels)
    torch.testing.assert_close(ours.weight_DL.T, torch.from_numpy(theirs.coef_), atol=1e-4, rtol=0)
    assert ours.weight_DL.shape == (150, 3)


def test_a_slope_ends_the_search_as_soon_as_the_gradient_is_that_short():
    """By an independent formula of the gradient of the mean cross-entropy and the penalty."""
    (train, _), penalty = problem(noise=2.0), 1e-4
    rows = torch.arange(len(train))
    plain = Standard.of(train.values_ND, rows, on=False)

    def slope(found):
        weight, bias = (part.detach().clone().requires_grad_() for part in (found.weight_DL, found.bias_L))
        scores = plain(train.values_ND).double() @ weight + bias
        loss = torch.nn.functional.cross_entropy(scores, train.labels_N) + penalty / 2 * weight.square().sum()
        return torch.cat([part.flatten() for part in torch.autograd.grad(loss, (weight, bias))]).norm()

    loose, exact = (solve([penalty], train, rows, 4, plain, ALONE, slope=end)[0] for end in (1e-3, 0.0))
    assert 1e-6 < slope(loose) <= 1e-3
    assert slope(exact) < 1e-6


def test_features_beyond_what_is_kept_are_converted_tile_by_tile(monkeypatch):
    train, _ = problem()
    rows = torch.arange(len(train))
    standard = Standard.of(train.values_ND, rows)
    whole = solve([1e-2, 1e-3], train, rows, 4, standard, ALONE)
    monkeypatch.setattr(logistic, "_KEPT", 0)
    tiles = solve([1e-2, 1e-3], train, rows, 4, standard, ALONE)
    for number, classifier in whole.items():
        torch.testing.assert_close(classifier.weight_DL, tiles[number].weight_DL, atol=1e-4, rtol=0)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(("width", "classes", "batch"), [(6, 4, 32), (33, 10, 61), (64, 7, 240)])
def test_a_head_of_a_sweep_equals_the_head_alone_bit_for_bit(width, classes, batch, threads):
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(classes, (240,), generator=generator)
    train = Features(torch.randn(240, width, generator=generator), labels)
    rows = torch.arange(240)
    heads = [Head(0.01), Head(0.3, 1e-3), Head(1.0), Head(3.0, 1e-2), Head(0.1)]
    settings = (train, rows, classes, Schedule(3, batch), Standard.of(train.values_ND, rows), ALONE)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        together = train_heads(heads, *settings)
        for number, head in enumerate(heads):
            alone = train_heads([head], *settings)[0]
            assert torch.equal(alone.weight_DL, together[number].weight_DL)
            assert torch.equal(alone.bias_L, together[number].bias_L)
        assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("decay", [0.0, 1e-2])
def test_sgd_equals_torchs_optimizer(decay):
    train, test = problem(64)
    rows = torch.arange(64)
    standard = Standard.of(train.values_ND, rows)
    ours = train_heads([Head(0.2, decay)], train, rows, 4, Schedule(6, 16), standard, ALONE)[0]
    generator = torch.Generator().manual_seed(0)
    weight = (torch.randn(6, 4, generator=generator) * 0.01).requires_grad_()
    bias = torch.zeros(4, requires_grad=True)
    groups = [{"params": [weight], "weight_decay": decay}, {"params": [bias]}]
    optimizer = torch.optim.SGD(groups, lr=0.2 * 16 / 256, momentum=0.9)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 6)
    values = standard(train.values_ND)
    for _ in range(6):
        for batch in torch.randperm(64, generator=generator).split(16):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(values[batch] @ weight + bias, train.labels_N[batch]).backward()
            optimizer.step()
        schedule.step()
    torch.testing.assert_close(ours.weight_DL, weight.detach(), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(ours.scores(test.values_ND), (standard(test.values_ND) @ weight + bias).detach())


def test_the_best_on_held_out_samples_is_chosen():
    train, _ = problem(noise=2.0)
    held = torch.arange(len(train)) % 4 == 0
    fitted = fit_linear(Linear("run", refit="no"), Task(train, held, 4, ALONE))
    rows = (~held).nonzero()[:, 0]
    standard = Standard.of(train.values_ND, rows)
    accuracies = {}
    for penalty in Linear("run").penalties:
        other = LogisticRegression(C=1 / (penalty * len(rows)), max_iter=10000, tol=1e-10)
        other.fit(standard(train.values_ND[rows]).double(), train.labels_N[rows])
        accuracies[penalty] = 100 * other.score(standard(train.values_ND[held]).double(), train.labels_N[held])
    assert accuracies[fitted.choice.settings["penalty"]] == max(accuracies.values())
    assert fitted.choice.held_out_top1 == pytest.approx(max(accuracies.values()))


def test_a_refit_uses_every_sample():
    train, test = problem()
    standard = Standard.of(train.values_ND, torch.arange(len(train)))
    fitted = fit(train, solver="lbfgs", penalties=(1e-2,), refit="yes")
    every = solve([1e-2], train, torch.arange(len(train)), 4, standard, ALONE)[0]
    assert torch.equal(scores(fitted, test), every.scores(test.values_ND))
    assert not torch.equal(
        scores(fit(train, solver="lbfgs", penalties=(1e-2,), refit="no"), test), scores(fitted, test)
    )


def test_a_rate_that_diverges_is_not_chosen():
    train, _ = problem()
    fitted = fit(train, solver="sgd", epochs=10, rates=(0.1, 3e38))
    assert fitted.choice.settings["lr"] == 0.1


def test_rates_that_all_overflow_are_reported():
    with pytest.raises(UserError, match=r"overflow at every learning rate .* lower --rates"):
        fit(problem(noise=0.6)[0], solver="sgd", epochs=10, rates=(2e38, 3e38))


def test_constant_features_do_no_harm():
    train, test = problem(noise=0.3)
    wide = [Features(torch.cat([f.values_ND, torch.full((len(f), 3), 7.0)], 1), f.labels_N) for f in (train, test)]
    assert top(1, scores(fit(wide[0], solver="lbfgs"), wide[1]), test.labels_N) > 97


def test_a_best_value_at_the_end_of_its_grid_is_reported():
    grid = Grid("lr", (0.1, 1.0, 10.0))
    assert grid.remark(10.0, {0.1: 50, 1.0: 60, 10.0: 70}) == [
        "The best lr, 10, is the highest of its grid: a wider grid may give a better one."
    ]
    assert "lowest" in grid.remark(0.1, {0.1: 70, 1.0: 60, 10.0: 50})[0]
    assert grid.remark(1.0, {0.1: 50, 1.0: 80, 10.0: 70}) == []
    assert grid.remark(0.1, {0.1: 80, 1.0: 80, 10.0: 70}) == []  # no better than the value beside it


def test_mean_per_class_counts_classes_equally():
    labels = torch.tensor([0, 0, 0, 0, 1, 2])
    predictions = torch.tensor([0, 0, 0, 1, 1, 0])
    assert mean_class(predictions, labels, 4) == pytest.approx(100 * (3 / 4 + 1 + 0) / 3)


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
        ({"weight_decays": (-0.1,)}, "weight-decays"),
        ({"epochs": 0}, "epochs"),
        ({"seed": -1}, "seed"),
        ({"seed": 2**64}, "seed"),
    ],
)
def test_impossible_options_are_named(options, word):
    with pytest.raises(UserError, match=word):
        Linear("run", **options)


def test_one_sample_is_too_few():
    train, _ = problem(1)
    with pytest.raises(UserError, match="too few"):
        fit(train, held_out=0.0)
