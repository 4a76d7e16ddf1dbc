"""From a classifier and features to logits, metrics and predictions.

Logits are W f + b in float32, by products of fixed parts, so that the scores do not depend on the number of processes.

Shape suffixes: M test samples, D features, L classes of the classifier.
"""

from dataclasses import replace

import torch
from torch import Tensor

from hardviews.evaluation.calibration import BINS, expected_calibration_error, negative_log_likelihood
from hardviews.evaluation.probe import Choice
from hardviews.evaluation.result import Scores
from hardviews.evaluation.scores import heading, metric, scored
from hardviews.evaluation.statistics import wilson
from hardviews.models.classifier import Classifier

NAME = "classify"
_ROWS = 4096  # features of one product


def logits(classifier: Classifier, values_MD: Tensor, device: torch.device) -> Tensor:
    """Return the logits (M, L) of features, float32, on the host; the products are computed on a device."""
    return torch.cat([classifier.logits(part.to(device)).cpu() for part in values_MD.split(_ROWS)])


def measured(logits_ML: Tensor, labels_M: Tensor) -> Scores:
    """Return the metrics of logits; labels_M: the classifier's numbers of the true classes."""
    found = scored(NAME, {"": logits_ML}, labels_M, Choice())
    right_M = found.predictions_M == labels_M
    calibrated = {
        metric(NAME, "ece"): expected_calibration_error(found.confidence_M, right_M),
        metric(NAME, "nll"): negative_log_likelihood(logits_ML, labels_M),
    }
    of_classes = {metric(NAME, "mean_class"): heading(NAME, "mean class")}
    return replace(found, metrics={**found.metrics, **calibrated}, headings={**found.headings, **of_classes})


def interval(scores: Scores, labels_M: Tensor) -> str:
    """Return the top-1 accuracy with its 95 % interval in a sentence."""
    right_M = scores.predictions_M == labels_M
    found = wilson(int(right_M.sum()), len(right_M))
    return (
        f"Top-1 is {found.value:.1f} %, with a 95 % interval of {found.low:.1f} to {found.high:.1f} % over "
        f"{len(right_M):,} test images."
    )


def calibration(scores: Scores) -> str:
    """Return the calibration in a sentence."""
    error, likelihood = (scores.metrics[metric(NAME, kind)] for kind in ("ece", "nll"))
    return f"Expected calibration error {error:.2f} % ({BINS} bins), negative log-likelihood {likelihood:.3f}."
