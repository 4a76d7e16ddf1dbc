"""TorchX component: elastic fine-tuning. `torchx run -s local_cwd jobs/finetune.py --run RUN`."""

from typing import Dict, List, Optional

import torchx.specs as specs

from hardviews.launch import component
from hardviews.launch.pod_options import PodOptions


def finetune(
    *script_args: str,
    run: str,
    recipe: str = "digits_finetune",
    image: Optional[str] = None,
    data: Optional[str] = None,
    output: Optional[str] = None,
    tracking: Optional[str] = None,
    j: str = "1:2x1",
    wait: int = 86400,
    cpu: int = 2,
    memMB: int = 4096,
    gpu: int = 0,
    grace: int = 60,
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
    """Trains a pretrained encoder further, on all or some labels: one coordinator and as many trainers as -j allows.

    image, data, output and tracking may also be given once, in the environment (HARDVIEWS_IMAGE,
    HARDVIEWS_DATA, HARDVIEWS_OUTPUT, MLFLOW_TRACKING_URI) or under [hardviews:site] in .torchxconfig.

    Args:
        script_args: after `--`: --labels 10%, overrides of the recipe: see `hardviews finetune --help`
        run: the encoder: URL under which a pretraining job keeps its checkpoints, an MLflow run id, an encoder's file
        recipe: how to fine-tune: see `hardviews recipes`
        image: container image with hardviews in it (not used on this machine)
        data: URL of the packed dataset
        output: URL under which the tuned encoder is kept
        tracking: address of the MLflow server
        j: MIN:MAXxPROCESSES: nodes, and processes on each
        wait: seconds to wait for data that are still being packed and for an encoder that is still trained; on a
            cluster the job has no GPU meanwhile
        cpu: cores of a trainer node
        memMB: memory of a trainer node in MB
        gpu: GPUs of a trainer node
        grace: seconds that a training process may take to save after SIGTERM
        env: further environment variables of the trainers, as A=x,B=y
        secret: Kubernetes Secrets, by name, whose keys become environment variables: AWS_ACCESS_KEY_ID, ...
        mount: volumes, as type=volume,src=CLAIM,dst=FOLDER
        shm: shared memory in MB, a part of memMB (default: half of it)
        scratch: local disk in MB for the cache (default: the whole disk of the node)
        toleration: taints to bear, as KEY, KEY:EFFECT or KEY=VALUE:EFFECT
        node_selector: labels that a node must have, as KEY=VALUE
        priority: PriorityClass of the job
        ttl: seconds after which a finished job is removed (default: never)
        affinity: YAML file on this machine with the affinity of the pods that train
        spread: labels of nodes over which these pods are spread: topology.kubernetes.io/zone, kubernetes.io/hostname
        devices: further devices of a node, by the names under which nodes offer them, as rdma/ib=1
        capabilities: Linux capabilities of these pods: IPC_LOCK, with which RDMA pins memory
    """
    return component.pretraining(
        name="finetune",
        nodes=j,
        recipe=recipe,
        overrides=script_args,
        image=image,
        data=data,
        output=output,
        tracking=tracking,
        wait=wait,
        resource=specs.Resource(cpu=cpu, gpu=gpu, memMB=memMB),
        env=env,
        grace=grace,
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
        finetune=run,
    )
