"""TorchX component: packing images into shards. `torchx run -s local_cwd jobs/pack.py --source FOLDER`."""

from typing import Dict, List, Optional

import torchx.specs as specs

from hardviews.launch import component
from hardviews.launch.pod_options import PodOptions


def pack(
    *script_args: str,
    source: str,
    image: Optional[str] = None,
    data: Optional[str] = None,
    cpu: int = 2,
    memMB: int = 4096,
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
) -> specs.AppDef:
    """Packs images into WebDataset shards with an index beside them.

    image and data may also be given once, in the environment (HARDVIEWS_IMAGE, HARDVIEWS_DATA) or under
    [hardviews:site] in .torchxconfig.

    Args:
        script_args: further arguments, after `--`: see `hardviews pack --help`
        source: folder of class folders, list file, or the name of a dataset
        image: container image with hardviews in it (not used on this machine)
        data: URL to write the packed dataset to
        cpu: cores
        memMB: memory in MB
        env: further environment variables, as A=x,B=y
        secret: Kubernetes Secrets, by name, whose keys become environment variables: AWS_ACCESS_KEY_ID, ...
        mount: volumes, as type=volume,src=CLAIM,dst=FOLDER
        shm: shared memory in MB, a part of memMB (default: half of it)
        scratch: local disk in MB for the cache (default: the whole disk of the node)
        toleration: taints to bear, as KEY, KEY:EFFECT or KEY=VALUE:EFFECT
        node_selector: labels that a node must have, as KEY=VALUE
        priority: PriorityClass of the job
        ttl: seconds after which a finished job is removed (default: never)
        affinity: YAML file on this machine with the affinity of the pods that pack
    """
    return component.packing(
        name="pack",
        source=source,
        overrides=script_args,
        image=image,
        data=data,
        resource=specs.Resource(cpu=cpu, gpu=0, memMB=memMB),
        env=env,
        pod=PodOptions.of_job(secret, toleration, node_selector, priority, shm, scratch, ttl, affinity=affinity),
        mounts=mount,
    )
