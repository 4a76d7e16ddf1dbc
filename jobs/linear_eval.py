"""TorchX component: linear evaluation. `torchx run -s local_cwd jobs/linear_eval.py`."""

from typing import Dict, Optional

import torchx.specs as specs

from hardviews.launch import component


def linear_eval(
    *script_args: str,
    image: Optional[str] = None,
    data: Optional[str] = None,
    output: Optional[str] = None,
    tracking: Optional[str] = None,
    cpu: int = 2,
    memMB: int = 4096,
    gpu: int = 0,
    env: Optional[Dict[str, str]] = None,
) -> specs.AppDef:
    """Evaluates a pretrained encoder by a linear classifier on frozen features.

    image, data, output and tracking may also be said once, in the environment (HARDVIEWS_IMAGE,
    HARDVIEWS_DATA, HARDVIEWS_OUTPUT, MLFLOW_TRACKING_URI) or under [hardviews:site] in .torchxconfig.

    Args:
        script_args: further arguments, after `--`: see `hardviews linear --help`
        image: container image with hardviews in it (not used on this machine)
        data: URL of the packed dataset
        output: URL under which the pretraining job keeps its checkpoints
        tracking: address of the MLflow server
        cpu: cores
        memMB: memory in MB
        gpu: GPUs
        env: further environment variables
    """
    return component.evaluation(
        name="linear_eval",
        command="linear",
        overrides=script_args,
        image=image,
        data=data,
        output=output,
        tracking=tracking,
        resource=specs.Resource(cpu=cpu, gpu=gpu, memMB=memMB),
        env=env,
    )
