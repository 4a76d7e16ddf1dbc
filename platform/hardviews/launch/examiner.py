"""Finds the mistakes of a job before it runs: one implementation for `torchx run` and for `hardviews validate`."""

from collections.abc import Callable, Mapping
from types import TracebackType

from torchx.schedulers import Scheduler
from torchx.specs import AppDef, CfgVal
from torchx.specs.builders import materialize_appdef

from hardviews.launch import local, site
from hardviews.launch.command_check import Job
from hardviews.launch.component import Mistaken
from hardviews.launch.component_arguments import NoJob, split_readable
from hardviews.launch.findings import Findings
from hardviews.launch.kubernetes.scheduler import ElasticKubernetesScheduler
from hardviews.launch.kubernetes.submitter import TORCHX, Submitter
from hardviews.launch.preflight import Preflight, job_of
from hardviews.launch.slurm.scheduler import ElasticSlurmScheduler
from hardviews.launch.visible_store import StoreOfJob, visible_store


def component_of(
    function: Callable[..., AppDef], words: list[str], defaults: Mapping[str, str] | None
) -> tuple[AppDef | None, list[str]]:
    """Make a job of a component and its arguments, leaving out the arguments that cannot be used.

    Args:
        function: the component.
        words: the arguments, as on the command line.
        defaults: values of the section `[component:NAME]` in .torchxconfig.

    Returns:
        The job, or None if a required argument is missing; and the mistakes in the arguments.
    """
    try:
        readable, known, mistakes = split_readable(function, words, defaults)
    except NoJob as error:
        return None, error.mistakes
    try:
        return materialize_appdef(function, readable, known), mistakes
    except Mistaken as error:
        return error.app, [*mistakes, *error.mistakes]


class Examiner:
    """Examines jobs one after the other; one process reads all their commands.

    Args:
        complete: whether a value that the site has not given is a mistake.
        online: whether to ask the cluster and the object store.
    """

    def __init__(self, complete: bool, online: bool) -> None:
        self.complete = complete
        self.online = online
        self._reader: Preflight | None = None

    def __enter__(self) -> "Examiner":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._reader is not None:
            self._reader.close()

    def examine(
        self,
        app: AppDef,
        backend: Scheduler,
        cfg: Mapping[str, CfgVal],
        here: bool = False,
        submitter: Submitter = TORCHX,
    ) -> Findings:
        """Return all findings about a job.

        Args:
            app: the job.
            backend: TorchX scheduler that would run it.
            cfg: options of the scheduler.
            here: whether the processes of the job run on this machine.
            submitter: tool that submits the job.
        """
        found = Findings()
        slurm = isinstance(backend, ElasticSlurmScheduler)
        if self.complete:
            found.mistakes += site.unsaid(app, local=here or slurm)
        cluster = backend if isinstance(backend, ElasticKubernetesScheduler) else None
        command = job_of(app, None if cluster is None else cluster.cache_disk(app, cfg), here)
        reader = None
        if command is not None:
            reader = self._read(command)  # it works while the cluster is asked
        if cluster is not None:
            found.add(cluster.examine(app, cfg, online=self.online, submitter=submitter))
            found.checked += ["the settings of the pods", *(["the cluster"] if self.online else [])]
        if slurm:
            found.add(backend.examine(app, cfg, online=self.online))
            found.checked += ["the options of the job", *(["Slurm"] if self.online else [])]
        if reader is not None:
            found.add(self._end_reading(reader, app, cluster, cfg, here))
        return found

    def _read(self, command: Job) -> Preflight:
        if self._reader is None:
            self._reader = Preflight(command)
        else:
            self._reader.begin(command)
        return self._reader

    def _end_reading(
        self,
        reader: Preflight,
        app: AppDef,
        cluster: ElasticKubernetesScheduler | None,
        cfg: Mapping[str, CfgVal],
        here: bool,
    ) -> Findings:
        mistakes, unchecked, failure = reader.words()
        if failure is not None:
            self._reader = None  # a late answer would be taken for the answer about the next job
            reader.close()
        found = Findings(list(mistakes))
        if failure is not None:
            found.remarks.append(f"The command was not checked here ({failure}); the job's own processes check it.")
            return found
        found.checked.append("the words of the command")
        found.unchecked += unchecked
        if self.online and not site.missing(app, local=True):
            of_job = StoreOfJob({}) if cluster is None else cluster.store_of(app, cfg)
            store = local.store_of(app) if here else visible_store(of_job)
            if store is None:
                found.unchecked.append("data and output (this machine has no access to the object store of the job)")
            else:
                mistakes, remarks, failure = reader.places(store)
                found.add(Findings(mistakes, remarks))
                if failure is None:
                    found.checked.append("data and output")
                else:
                    found.remarks.append(
                        f"Data and output were not checked from here ({failure}); the job's processes check them."
                    )
        return found
