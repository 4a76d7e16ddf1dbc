"""A component with the roles and commands of pretraining, whose trainers run the toy."""

import os

import torchx.specs as specs

from hardviews.launch import component


def toyjob(*script_args: str, j: str = "1:2x1") -> specs.AppDef:
    """Runs the toy trainer.

    Args:
        script_args: arguments of the toy trainer
        j: see jobs/pretrain.py
    """
    app = component.pretraining(
        name="toy",
        nodes=j,
        recipe="none",
        overrides=[],
        image=None,
        data="none",
        output="none",
        tracking=None,
        wait=0,
        resource=specs.Resource(cpu=1, gpu=0, memMB=1024),
        env=None,
        grace=60,
    )
    trainer = app.roles[1]
    trainer.env["PYTHONPATH"] = os.getcwd()  # the current folder is not searched for modules
    trainer.args = [*trainer.args[: trainer.args.index("--prepare")], "--", "tests.elastic.toy_trainer", *script_args]
    return app
