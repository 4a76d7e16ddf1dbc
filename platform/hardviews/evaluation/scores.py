"""From scores of classes to metrics with names and headings.

Shape suffixes: M test samples, L classes.
"""

from collections.abc import Mapping, Sequence

from torch import Tensor

from hardviews.evaluation.probe import Choice, mean_class, top
from hardviews.evaluation.result import Scores
from hardviews.evaluation.statistics import over_seeds

_TITLES = {"knn": "k-NN", "linear": "linear", "fewshot": "few-shot", "transfer": "transfer"}
"""Names of the protocols in headings."""


def metric(protocol: str, kind: str, variant: str = "") -> str:
    """Return the name of a metric: `knn/top1`, `knn/top1_k20`."""
    return f"{protocol}/{kind}{'_' if variant else ''}{variant}"


def heading(protocol: str, kind: str, variant: str = "") -> str:
    """Return the heading of a metric, on two lines: tables fit a terminal of 80 columns."""
    below = variant.replace("k", "k=", 1) if variant.startswith("k") else variant or kind.replace("top", "top-")
    return f"{_TITLES.get(protocol, protocol)}\n{below}"


def scored(protocol: str, scores: Mapping[str, Tensor | Sequence[Tensor]], labels_M: Tensor, choice: Choice) -> Scores:
    """Return the metrics of a protocol's predictions; the headline is the one of the empty name.

    Of several draws the mean is the metric; another one, with `_std` behind its name, is their standard deviation.
    """
    metrics: dict[str, float] = {}
    headings: dict[str, str] = {}
    for variant, scores_ML in scores.items():
        name = metric(protocol, "top1", variant)
        draws = [scores_ML] if isinstance(scores_ML, Tensor) else list(scores_ML)
        accuracies = over_seeds([top(1, draw_ML, labels_M) for draw_ML in draws])
        metrics[name], headings[name] = accuracies.value, heading(protocol, "top1", variant)
        if accuracies.deviation is not None:
            metrics[f"{name}_std"] = accuracies.deviation
    headline_ML = scores[""]
    assert isinstance(headline_ML, Tensor)
    classes = headline_ML.shape[1]
    predictions_M = headline_ML.argmax(1)
    if classes > 5:
        name = metric(protocol, "top5")
        metrics[name] = top(5, headline_ML, labels_M)
        if protocol != "knn":  # few neighbours name fewer than five classes
            headings[name] = heading(protocol, "top5")
    metrics[metric(protocol, "mean_class")] = mean_class(predictions_M, labels_M, classes)
    if choice.held_out_top1 is not None:
        metrics[metric(protocol, "held_out_top1")] = choice.held_out_top1
    metrics |= {metric(protocol, "choice", name): value for name, value in choice.settings.items()}
    return Scores(metrics, headings, predictions_M, confidence(protocol, headline_ML))


def confidence(protocol: str, scores_ML: Tensor) -> Tensor:
    """Return the confidence of each prediction (M,), 0 to 1: its share of the votes, or its softmax.

    Votes of neighbours are 0 or more; logits and the scores of a regression are any numbers.
    """
    best_M = scores_ML.double().amax(1)
    if protocol == "knn":
        shares_M: Tensor = best_M / scores_ML.double().sum(1).clamp(min=1e-300)
        return shares_M
    return (best_M - scores_ML.double().logsumexp(1)).exp()
