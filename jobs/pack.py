"""TorchX component: packing images into shards. `torchx run -s local_cwd jobs/pack.py --source FOLDER`."""

from typing import Dict, Optional

import torchx.specs as specs

from hardviews.launch import component


def pack(
    *script_args: str,
    source: str,
    image: Optional[str] = None,
    data: Optional[str] = None,
    cpu: int = 2,
    memMB: int = 4096,
    env: Optional[Dict[str, str]] = None,
) -> specs.AppDef:
    """Packs images into WebDataset shards with an index beside them.

    image and data may also be said once, in the environment (HARDVIEWS_IMAGE, HARDVIEWS_DATA) or under
    [hardviews:site] in .torchxconfig.

    Args:
        script_args: further arguments, after `--`: see `hardviews pack --help`
        source: folder of class folders, or the name of a dataset
        image: container image with hardviews in it (not used on this machine)
        data: URL to write the packed dataset to
        cpu: cores
        memMB: memory in MB
        env: further environment variables
    """
    return component.packing(
        name="pack",
        source=source,
        overrides=script_args,
        image=image,
        data=data,
        resource=specs.Resource(cpu=cpu, gpu=0, memMB=memMB),
        env=env,
    )
