"""TorchX component: linear transfer. `torchx run -s local_cwd jobs/transfer_eval.py -- --sets FOLDER`."""

from typing import Dict, List, Optional

import torchx.specs as specs

from hardviews.launch import component
from hardviews.launch.pod_options import PodOptions


def transfer_eval(
    *script_args: str,
    image: Optional[str] = None,
    data: Optional[str] = None,
    output: Optional[str] = None,
    tracking: Optional[str] = None,
    j: Optional[str] = None,
    wait: int = 86400,
    cpu: int = 2,
    memMB: int = 4096,
    gpu: int = 0,
    env: Optional[Dict[str, str]] = None,
    secret: Optional[List[str]] = None,
    mount: Optional[List[str]] = None,
    shm: Optional[int] = None,
    scratch: Optional[int] = None,
    toleration: Optional[List[str]] = None,
    node_selector: Optional[Dict[str, str]] = None,
    priority: Optional[str] = None,
    ttl: Optional[int] = None,
    affinity: Optional[str] = None,
    spread: Optional[List[str]] = None,
    devices: Optional[Dict[str, str]] = None,
    capabilities: Optional[List[str]] = None,
) -> specs.AppDef:
    """Evaluate a pretrained encoder by linear classifiers on other data sets.

    image, data, output and tracking may also be given once, in the environment (HARDVIEWS_IMAGE,
    HARDVIEWS_DATA, HARDVIEWS_OUTPUT, MLFLOW_TRACKING_URI) or under [hardviews:site] in .torchxconfig.

    Args:
        script_args: further arguments, after `--`: see `hardviews transfer --help`
        image: container image with hardviews in it (not used on this machine)
        data: URL of a packed dataset, if the arguments name no --sets
        output: URL under which the pretraining job keeps its checkpoints
        tracking: address of the MLflow server
        j: MIN:MAXxPROCESSES: nodes, and processes on each (default: one node, one process for each GPU)
        wait: seconds to wait for data that are still being packed and for a run that is still being trained; on a
            cluster the job has no GPU meanwhile
        cpu: cores of a node
        memMB: memory of a node in MB
        gpu: GPUs of a node
        env: further environment variables, as A=x,B=y
        secret: Kubernetes Secrets, by name, whose keys become environment variables: AWS_ACCESS_KEY_ID, ...
        mount: volumes, as type=volume,src=CLAIM,dst=FOLDER
        shm: shared memory in MB, a part of memMB (default: half of it)
        scratch: local disk in MB for the cache (default: the whole disk of the node)
        toleration: taints to bear, as KEY, KEY:EFFECT or KEY=VALUE:EFFECT
        node_selector: labels that a node must have, as KEY=VALUE
        priority: PriorityClass of the job
        ttl: seconds after which a finished job is removed (default: never)
        affinity: YAML file on this machine with the affinity of the pods that evaluate
        spread: labels of nodes over which these pods are spread: topology.kubernetes.io/zone, kubernetes.io/hostname
        devices: further devices of a node, by the names under which nodes offer them, as rdma/ib=1
        capabilities: Linux capabilities of these pods: IPC_LOCK, with which RDMA pins memory
    """
    return component.evaluation(
        name="transfer",
        command="transfer",
        nodes=j,
        overrides=script_args,
        image=image,
        data=data,
        output=output,
        tracking=tracking,
        wait=wait,
        resource=specs.Resource(cpu=cpu, gpu=gpu, memMB=memMB),
        env=env,
        pod=PodOptions.of_job(
            secret,
            toleration,
            node_selector,
            priority,
            shm,
            scratch,
            ttl,
            spread=spread,
            affinity=affinity,
            devices=devices,
            capabilities=capabilities,
        ),
        mounts=mount,
    )
