"""The process that training processes are forked from is not ended by a SIGTERM that a whole job gets."""

import subprocess
import sys

PROGRAM = """
import multiprocessing, os, signal
from multiprocessing import forkserver

context = multiprocessing.get_context("forkserver")
context.set_forkserver_preload(PRELOAD)


def fork():
    process = context.Process(target=print, args=("forked",))
    process.start()
    process.join()
    return forkserver._forkserver._forkserver_pid


if __name__ == "__main__":
    before = fork()
    os.kill(before, signal.SIGTERM)
    if PRELOAD:
        assert fork() == before
    else:
        os.waitid(os.P_PID, before, os.WEXITED | os.WNOWAIT)
    print("done")
"""


def run(preload, folder):
    file = folder / "program.py"
    file.write_text(PROGRAM.replace("PRELOAD", repr(preload)))
    return subprocess.run([sys.executable, str(file)], capture_output=True, text=True, timeout=120)


def test_sigterm_leaves_it_alive(tmp_path):
    done = run(["hardviews.elastic.leash"], tmp_path)
    assert done.stdout.split() == ["forked", "forked", "done"], done.stderr


def test_without_the_leash_it_would_end(tmp_path):
    """The test above can fail."""
    done = run([], tmp_path)
    assert done.stdout.split() == ["forked", "done"], done.stderr
