"""Calibration of a classifier: whether its confidence is the share of its predictions that are right.

Expected calibration error: Guo et al., "On Calibration of Modern Neural Networks" (ICML 2017), equation 3, with bins
of equal width.

Shape suffixes: M test samples, L classes.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

BINS = 15
_ROWS = 4096  # whose logits are taken to double precision at once


def expected_calibration_error(confidence_M: Tensor, right_M: Tensor, bins: int = BINS) -> float:
    """Return the mean distance of confidence and accuracy over the samples' bins, in per cent.

    A bin holds the confidences above its lower bound, up to and with its upper bound; the first bin holds 0 too.
    right_M: whether each prediction is right.
    """
    bounds = torch.arange(1, bins, dtype=torch.double) / bins
    bin_M = torch.bucketize(confidence_M.double(), bounds)
    surplus_M = confidence_M.double() - right_M.double()
    sum_B = torch.zeros(bins, dtype=torch.double).index_add_(0, bin_M, surplus_M)
    return 100.0 * sum_B.abs().sum().item() / len(confidence_M)


def negative_log_likelihood(logits_ML: Tensor, labels_M: Tensor) -> float:
    """Return the mean over samples of -log p(label), in nats."""
    parts = zip(logits_ML.split(_ROWS), labels_M.split(_ROWS), strict=True)
    total = sum(F.cross_entropy(logits.double(), labels, reduction="sum").item() for logits, labels in parts)
    return total / len(labels_M)
