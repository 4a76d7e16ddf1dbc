"""The number of processes of a job, compared with the groups of samples in a batch."""

from dataclasses import dataclass

from hardviews.data.shares import check_sizes
from hardviews.errors import UserError


@dataclass(frozen=True)
class Invited:
    """The processes that may train together: least and most nodes, and processes on each."""

    least: int
    most: int
    processes: int

    @property
    def world(self) -> int:
        """The largest number of processes."""
        return self.most * self.processes

    def check(self, batch: int, group: int, accumulate: int, form: str) -> None:
        """Refuse a batch that the largest number of processes cannot share: the last one to join would end the run.

        Args:
            batch: samples of a global batch.
            group: samples that no two processes share.
            accumulate: micro-batches of a global batch.
            form: the command's options for least, most and processes, such as `-j {least}:{most}x{processes}`.

        Raises:
            UserError: the batch is refused; the message has options that would work.
        """
        check_sizes(batch, group, accumulate, 1)
        groups = batch // (group * accumulate)
        if self.world <= groups:
            return
        if self.processes <= groups:
            nodes = groups // self.processes
            better = Invited(min(self.least, nodes), nodes, self.processes)
        else:
            better = Invited(1, 1, groups)
        of = "" if accumulate == 1 else f" in each of its {accumulate} micro-batches"
        raise UserError(
            f"{self._as(form)} invites up to {self.world} processes, and a batch of {batch} has {groups} "
            f"group{'s' * (groups != 1)} of {group} samples{of}; each process needs one. Give at most "
            f"{better._as(form)}, a --training.batch of at least {group * accumulate * self.world}, or a smaller "
            "--training.group."
        )

    def _as(self, form: str) -> str:
        return form.format(least=self.least, most=self.most, processes=self.processes)
