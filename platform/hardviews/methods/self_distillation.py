"""Cross-entropies between a teacher's and a student's outputs, which are never in memory as a whole.

Outputs are W z, with embeddings z and the weights W of a last layer. For a teacher's distribution q,

    -sum_k q_k log softmax(W z / t)_k = logsumexp(W z / t) - (q W) . z / t,

so a student's view costs one logsumexp and a teacher's view one expectation q W. Each is made once for all of its
pairs. All pairs of an image are one small matrix product of expectations and embeddings. Logsumexp and expectation run
over all outputs: they are made some rows at a time, and once more in the backward pass, which therefore stores no
outputs.

Shape legend: B samples, R rows, D bottleneck, K outputs, T teacher's views, V student's views, P pairs.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

Key = TypeVar("Key")

_HELD = 2**24  # number of outputs in memory at once: 64 MiB in single precision


@dataclass(frozen=True, eq=False)
class Comparison:
    """The outputs of two last layers for embeddings, and their cross-entropies.

    `student` and `teacher` are weights (K, D) of the last layers. `centre` (K,) is subtracted from the teacher's
    outputs. Targets get no gradient.
    """

    student: Tensor
    teacher: Tensor
    centre: Tensor
    student_temperature: float
    teacher_temperature: float

    def losses(
        self, pairs: Sequence[tuple[Key, Key]], online: Mapping[Key, Tensor], target: Mapping[Key, Tensor]
    ) -> Tensor:
        """Return the cross-entropies (P, B) of (student's view, teacher's view) pairs of embeddings (B, D).

        The same as this, except for the order of additions:

            for view, teacher_view in pairs:
                q = softmax((teacher @ target[teacher_view] - centre) / teacher_temperature)
                loss = -(q * log_softmax(student @ online[view] / student_temperature)).sum()
        """
        with torch.autocast(self.student.device.type, enabled=False):
            normalisers = {v: self.normaliser(online[v]) for v in dict.fromkeys(v for v, _ in pairs)}
            expected = {t: self.expected(target[t]) for t in dict.fromkeys(t for _, t in pairs)}
            dots_PB = self._dots(pairs, online, target.keys(), expected)
            return torch.stack([normalisers[v] for v, _ in pairs]) - dots_PB

    def mixed_loss(
        self,
        pair: tuple[Key, Key],
        online: Mapping[Key, Tensor],
        target: Mapping[Key, Tensor],
        partner_B: Tensor,
        weight_B: Tensor,
    ) -> Tensor:
        """Return the cross-entropy (B,) with a mixture of each row's target and its partner's."""
        with torch.autocast(self.student.device.type, enabled=False):
            own = self.expected(target[pair[1]])
            # Two products, not one of a mixture: at weight 1 the loss is the own target's, bit for bit.
            own_B, other_B = (
                self._dots([pair], online, target.keys(), {pair[1]: expected})[0]
                for expected in (own, own[partner_B.to(own.device, non_blocking=True)])
            )
            normaliser_B = self.normaliser(online[pair[0]])
            weight_B = weight_B.to(own_B)
            return weight_B * (normaliser_B - own_B) + (1 - weight_B) * (normaliser_B - other_B)

    def row_losses(self, online_RD: Tensor, target_RD: Tensor) -> Tensor:
        """Return the cross-entropies (R,) of embeddings (R, D), row by row."""
        with torch.autocast(self.student.device.type, enabled=False):
            dots_R = (self.expected(target_RD) * online_RD).sum(1) / self.student_temperature
            return self.normaliser(online_RD) - dots_R

    def normaliser(self, online_RD: Tensor) -> Tensor:
        """Return the logsumexp (R,) of the student's outputs over its temperature."""
        made: Tensor = _LogSumExp.apply(online_RD, self.student, self.student_temperature)
        return made

    def expected(self, target_RD: Tensor) -> Tensor:
        """Return the mean (R, D) of the student's weights under the teacher's distributions."""
        made: Tensor = _Expectation.apply(target_RD, self.teacher, self.centre, self.teacher_temperature, self.student)
        return made

    def scores(self, online_BD: Tensor, target_BD: Tensor) -> tuple[Tensor, Tensor]:
        """Return the student's logits (B, K) and the teacher's most likely outputs (B,)."""
        with torch.autocast(self.student.device.type, enabled=False):
            labels_B = (target_BD @ self.teacher.T - self.centre).argmax(1)
            return online_BD @ self.student.T / self.student_temperature, labels_B

    def _dots(
        self,
        pairs: Sequence[tuple[Key, Key]],
        online: Mapping[Key, Tensor],
        targets: Collection[Key],
        expected: Mapping[Key, Tensor],
    ) -> Tensor:
        """Return the products (P, B) of expectations and embeddings of pairs, over the temperature.

        The matrix has a row for every target and a column for every view, requested or not. So a pair has the same bits
        with any other requested pairs. Entries that are not requested get no gradient.
        """
        zero_BD = torch.zeros_like(next(iter(expected.values())))
        rows = {key: t for t, key in enumerate(targets)}
        columns = {key: v for v, key in enumerate(online)}
        asked = {v for v, _ in pairs}
        expected_BTD = torch.stack([expected.get(key, zero_BD) for key in rows], 1)
        online_BDV = torch.stack([z if key in asked else z.detach() for key, z in online.items()], 2)
        dots_BTV = torch.bmm(expected_BTD, online_BDV) / self.student_temperature
        return torch.stack([dots_BTV[:, rows[t], columns[v]] for v, t in pairs])


def _portions(rows: int, outputs: int) -> Iterator[slice]:
    held = max(1, _HELD // outputs)
    for first in range(0, rows, held):
        yield slice(first, first + held)


class _LogSumExp(torch.autograd.Function):
    """logsumexp(W z / t) of rows z (R, D) and weights W (K, D): (R,)."""

    @staticmethod
    def forward(ctx: Any, rows_RD: Tensor, weights_KD: Tensor, temperature: float) -> Tensor:
        made_R = rows_RD.new_empty(len(rows_RD))
        for some in _portions(len(rows_RD), len(weights_KD)):
            made_R[some] = (rows_RD[some] / temperature @ weights_KD.T).logsumexp(1)
        ctx.save_for_backward(rows_RD, weights_KD, made_R)
        ctx.temperature = temperature
        return made_R

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_R: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        rows_RD, weights_KD, made_R = ctx.saved_tensors
        grad_rows = torch.empty_like(rows_RD) if ctx.needs_input_grad[0] else None
        grad_weights = torch.zeros_like(weights_KD) if ctx.needs_input_grad[1] else None
        with torch.autocast(rows_RD.device.type, enabled=False):
            for some in _portions(len(rows_RD), len(weights_KD)):
                scaled = rows_RD[some] / ctx.temperature
                shares = (scaled @ weights_KD.T).sub_(made_R[some, None]).exp_().mul_(grad_R[some, None])
                if grad_rows is not None:
                    grad_rows[some] = shares @ weights_KD / ctx.temperature
                if grad_weights is not None:
                    grad_weights.addmm_(shares.T, scaled)
        return grad_rows, grad_weights, None


class _Expectation(torch.autograd.Function):
    """The mean (R, D) of weights (K, D) under softmax((teacher z - centre) / t) of rows z (R, D)."""

    @staticmethod
    def forward(
        ctx: Any, rows_RD: Tensor, teacher_KD: Tensor, centre_K: Tensor, temperature: float, weights_KD: Tensor
    ) -> Tensor:
        made_RD = torch.empty_like(rows_RD)
        for some in _portions(len(rows_RD), len(weights_KD)):
            made_RD[some] = _distribution(rows_RD[some], teacher_KD, centre_K, temperature) @ weights_KD
        ctx.save_for_backward(rows_RD, teacher_KD, centre_K)
        ctx.temperature = temperature
        return made_RD

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_RD: Tensor) -> tuple[None, None, None, None, Tensor | None]:
        rows_RD, teacher_KD, centre_K = ctx.saved_tensors
        if not ctx.needs_input_grad[4]:
            return None, None, None, None, None
        grad_weights = torch.zeros_like(teacher_KD)
        with torch.autocast(rows_RD.device.type, enabled=False):
            for some in _portions(len(rows_RD), len(teacher_KD)):
                shares = _distribution(rows_RD[some], teacher_KD, centre_K, ctx.temperature)
                grad_weights.addmm_(shares.T, grad_RD[some])
        return None, None, None, None, grad_weights


def _distribution(rows_RD: Tensor, teacher_KD: Tensor, centre_K: Tensor, temperature: float) -> Tensor:
    return (rows_RD @ teacher_KD.T).sub_(centre_K).div_(temperature).softmax(1)
