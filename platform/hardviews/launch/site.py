"""The values that a site must give: image, data, output and tracking server, and the places to give them.

The options of the Kubernetes scheduler that differ from site to site may be in the environment too.
"""

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from torchx.runner.config import get_configs
from torchx.specs import AppDef

from hardviews.errors import did_you_mean
from hardviews.launch.released import released_image

SECTION = "hardviews:site"
"""Section of .torchxconfig."""


@dataclass(frozen=True)
class SiteValue:
    """One value that differs from site to site.

    It comes from the component's argument, else from the environment variable, else from the section
    `[hardviews:site]` of .torchxconfig, else from `default`. Else it is a placeholder: a dry run shows it, a submission
    refuses it.
    """

    argument: str
    variable: str
    meaning: str
    default: Callable[[], str | None] = lambda: None

    @property
    def placeholder(self) -> str:
        return f"<{self.argument}: {self.meaning}>"

    def resolve(self, given: str | None) -> str:
        """Return the value, or the placeholder if it was not given."""
        if given:
            return given
        if value := os.environ.get(self.variable):
            return value
        configured = get_configs(prefix="hardviews", name="site").get(self.argument)
        return configured or self.default() or self.placeholder


IMAGE = SiteValue("image", "HARDVIEWS_IMAGE", "container image with hardviews in it", released_image)
DATA = SiteValue("data", "HARDVIEWS_DATA", "URL of a packed dataset")
OUTPUT = SiteValue("output", "HARDVIEWS_OUTPUT", "URL under which checkpoints are kept")
TRACKING = SiteValue("tracking", "MLFLOW_TRACKING_URI", "address of the MLflow server")

VALUES = (IMAGE, DATA, OUTPUT, TRACKING)

NAMESPACE = "HARDVIEWS_NAMESPACE"
"""Environment variable: the namespace of jobs."""

QUEUE = "HARDVIEWS_QUEUE"
"""Environment variable: the Volcano queue."""

SECRETS = "HARDVIEWS_SECRETS"
"""Environment variable: names of Secrets, with commas between them."""


def cluster_options(variables: Mapping[str, str] = os.environ) -> dict[str, str | list[str]]:
    """Return the options of the Kubernetes scheduler from the environment; they win over .torchxconfig."""
    single = {"namespace": variables.get(NAMESPACE, ""), "queue": variables.get(QUEUE, "")}
    found: dict[str, str | list[str]] = {option: value.strip() for option, value in single.items() if value.strip()}
    secrets = [name.strip() for name in variables.get(SECRETS, "").replace(";", ",").split(",") if name.strip()]
    return found | ({"secrets": secrets} if secrets else {})


def unknown_values(where: str, given: Iterable[str]) -> list[str]:
    """Return sentences about values in the section of .torchxconfig that no job reads."""
    known = [value.argument for value in VALUES]
    return [
        f"{where}{name} is no value of a site.{did_you_mean(name, known)} Choose from {', '.join(known)}."
        for name in given
        if name not in known
    ]


def missing(app: AppDef, local: bool) -> list[SiteValue]:
    """List the values that were not given; on this machine no image and no server are needed."""
    needed = (DATA, OUTPUT) if local else (IMAGE, DATA, OUTPUT, TRACKING)
    said = [part for role in app.roles for part in (role.image, *role.args, *role.env.values())]
    return [value for value in needed if any(value.placeholder in part for part in said)]


def unsaid(app: AppDef, local: bool) -> list[str]:
    """Return a sentence about the values that were not given, if any."""
    values = missing(app, local)
    if not values:
        return []
    names = "; ".join(f"--{v.argument} ({v.meaning}), or {v.variable} in the environment" for v in values)
    return [
        f"The job {app.name} lacks {names}. Give them after the component, export the "
        "variables, or write them once under [hardviews:site] in .torchxconfig."
    ]
