"""Programs named like Slurm's, which note how they are called and answer what a test has written down."""

import json
import socket
import sys
from pathlib import Path

PROGRAM = """#!{python} -P
import json, os, pathlib, sys
here = pathlib.Path(__file__).parent
name = pathlib.Path(__file__).name
call = {{"words": sys.argv[1:], "input": "" if sys.stdin is None else sys.stdin.read(), "variables": dict(os.environ)}}
with (here / f"{{name}}.calls").open("a") as file:
    file.write(json.dumps(call) + "\\n")
answer = json.loads((here / f"{{name}}.answer").read_text())
print(answer["out"], end="")
print(answer["error"], end="", file=sys.stderr)
sys.exit(answer["code"])
"""


class FakeSlurm:
    """The programs, in a folder of their own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        here = socket.gethostname().partition(".")[0]
        self.answer("sbatch", "12\n")
        self.answer("sinfo", f"gpu|{here}\ncpu|{here}\n")
        self.answer("squeue", error="slurm_load_jobs error: Invalid job id specified\n", code=1)
        self.answer("sacct", error="Slurm accounting storage is disabled\n", code=1)
        self.answer("scancel")
        self.answer("scontrol")

    def answer(self, program: str, out: str = "", error: str = "", code: int = 0) -> None:
        file = self.folder / program
        file.write_text(PROGRAM.format(python=sys.executable))
        file.chmod(0o755)
        (self.folder / f"{program}.answer").write_text(json.dumps({"out": out, "error": error, "code": code}))

    def calls(self, program: str) -> list[dict]:
        file = self.folder / f"{program}.calls"
        return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
