"""The file of credentials, and the task that reads it."""

import pytest

from hardviews.errors import UserError
from hardviews.launch.credentials import confidential
from hardviews.launch.slurm.secrets import read_secrets
from hardviews.launch.slurm.task import prepare


def written(folder, text, mode=0o600):
    file = folder / "secrets"
    file.write_text(text)
    file.chmod(mode)
    return str(file)


def test_lines_are_variables(tmp_path):
    text = "# keys\n\nAWS_ACCESS_KEY_ID=a=b\nexport TOKEN='x y'\n  PLAIN = no\n".replace("  PLAIN = no\n", 'Q="z"\n')
    assert read_secrets(written(tmp_path, text)) == {"AWS_ACCESS_KEY_ID": "a=b", "TOKEN": "x y", "Q": "z"}


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660])
def test_a_file_that_others_may_read_is_refused(tmp_path, mode):
    with pytest.raises(UserError, match="chmod 600"):
        read_secrets(written(tmp_path, "A=b", mode))


def test_no_value_is_in_a_message(tmp_path):
    with pytest.raises(UserError, match="Line 2") as error:
        read_secrets(written(tmp_path, "A=b\nsecret word\n"))
    assert "word" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "is_one"),
    [
        ("AWS_SECRET_ACCESS_KEY", True),
        ("MLFLOW_TRACKING_PASSWORD", True),
        ("HF_TOKEN", True),
        ("AWS_WEB_IDENTITY_TOKEN_FILE", False),
        ("AWS_PROFILE", False),
        ("PATH", False),
    ],
)
def test_names_of_credentials(name, is_one):
    assert confidential(name) is is_one


def test_a_task_is_refused_on_a_node_that_does_not_see_the_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SLURMD_NODENAME", "node7")
    prepare(str(tmp_path), None)
    with pytest.raises(UserError, match="node7 does not see the folder of the job, /shared/jobs"):
        prepare("/shared/jobs", None)
