"""From scores of classes to metrics with names and headings.

Shape suffixes: M test samples, L classes.
"""

from collections.abc import Mapping, Sequence

from torch import Tensor

from hardviews.evaluation.average_precision import eleven_point, interpolated_area, mean_precision
from hardviews.evaluation.probe import Choice, mean_class, top
from hardviews.evaluation.result import Scores
from hardviews.evaluation.statistics import over_seeds

_TITLES = {"knn": "k-NN", "linear": "linear", "fewshot": "few-shot", "transfer": "transfer", "classify": "classifier"}
"""Names of the protocols in headings."""
_KINDS = {"top1": "top-1", "top5": "top-5", "map": "mAP", "map11": "mAP (11)"}


def metric(protocol: str, kind: str, variant: str = "") -> str:
    """Return the name of a metric: `knn/top1`, `knn/top1_k20`."""
    return f"{protocol}/{kind}{'_' if variant else ''}{variant}"


def heading(protocol: str, kind: str, variant: str = "", label: str = "") -> str:
    """Return the heading of a metric, on two lines: tables fit a terminal of 80 columns."""
    below = (
        variant.replace("k", "k=", 1)
        if variant.startswith("k")
        else variant or _KINDS.get(kind, kind.replace("top", "top-"))
    )
    return f"{_TITLES.get(protocol, protocol)}{' ' if label else ''}{label}\n{below}"


def kind_of_headline(protocol: str, metrics: Mapping[str, float]) -> str:
    """Return the kind of a protocol's first metric: accuracy, or mean average precision of images of several classes.

    Published linear transfer has the eleven-point precision, support vector machines the area.
    """
    if metric(protocol, "top1") in metrics:
        return "top1"
    return "map11" if protocol == "transfer" else "map"


def scored(
    protocol: str,
    scores: Mapping[str, Tensor | Sequence[Tensor]],
    labels_M: Tensor,
    choice: Choice,
    sets_ML: Tensor | None = None,
    label: str = "",
) -> Scores:
    """Return the metrics of a protocol's predictions; the headline is the one of the empty name.

    Of several draws the mean is the metric; another one, with `_std` behind its name, is their standard deviation.
    sets_ML: of images that may have several classes. label: the name of the published protocol, for headings.
    """
    if sets_ML is not None:
        return _precisions(protocol, scores, sets_ML, choice)
    metrics: dict[str, float] = {}
    headings: dict[str, str] = {}
    for variant, scores_ML in scores.items():
        name = metric(protocol, "top1", variant)
        draws = [scores_ML] if isinstance(scores_ML, Tensor) else list(scores_ML)
        accuracies = over_seeds([top(1, draw_ML, labels_M) for draw_ML in draws])
        metrics[name], headings[name] = accuracies.value, heading(protocol, "top1", variant, label)
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
            headings[name] = heading(protocol, "top5", label=label)
    metrics[metric(protocol, "mean_class")] = mean_class(predictions_M, labels_M, classes)
    if choice.held_out_top1 is not None:
        metrics[metric(protocol, "held_out_top1")] = choice.held_out_top1
    metrics |= {metric(protocol, "choice", name): value for name, value in choice.settings.items()}
    return Scores(metrics, headings, predictions_M, confidence(protocol, headline_ML))


def _precisions(
    protocol: str, scores: Mapping[str, Tensor | Sequence[Tensor]], sets_ML: Tensor, choice: Choice
) -> Scores:
    """Return mean average precisions in both forms; the published form of the protocol has headings."""
    metrics: dict[str, float] = {}
    headings: dict[str, str] = {}
    shown = kind_of_headline(protocol, {})
    for variant, scores_ML in scores.items():
        draws = [scores_ML] if isinstance(scores_ML, Tensor) else list(scores_ML)
        for kind, precision in (("map", interpolated_area), ("map11", eleven_point)):
            name = metric(protocol, kind, variant)
            found = over_seeds([mean_precision(precision, draw_ML, sets_ML) for draw_ML in draws])
            metrics[name] = found.value
            if found.deviation is not None:
                metrics[f"{name}_std"] = found.deviation
            if kind == shown:
                headings[name] = heading(protocol, kind, variant)
    if choice.held_out_top1 is not None:
        metrics[metric(protocol, f"held_out_{shown}")] = choice.held_out_top1
    metrics |= {metric(protocol, "choice", name): value for name, value in choice.settings.items()}
    headline_ML = scores[""]
    assert isinstance(headline_ML, Tensor)
    return Scores(metrics, headings, headline_ML.argmax(1), confidence(protocol, headline_ML))


def confidence(protocol: str, scores_ML: Tensor) -> Tensor:
    """Return the confidence of each prediction (M,), 0 to 1: its share of the votes, or its softmax.

    Votes of neighbours are 0 or more; logits and the scores of a regression are any numbers.
    """
    best_M = scores_ML.double().amax(1)
    if protocol == "knn":
        shares_M: Tensor = best_M / scores_ML.double().sum(1).clamp(min=1e-300)
        return shares_M
    return (best_M - scores_ML.double().logsumexp(1)).exp()
