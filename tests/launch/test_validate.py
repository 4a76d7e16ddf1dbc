"""The same mistake gets the same sentence from `torchx run`, and from `hardviews validate` of a job and of a chart."""

import argparse
import re
import shlex
from pathlib import Path
from typing import Any, ClassVar

import pytest
import yaml

from hardviews import cli
from hardviews.errors import UserError
from hardviews.launch import examiner, site
from hardviews.launch.chart.examine import examine_chart
from hardviews.launch.chart.jobs import jobs_of
from hardviews.launch.chart.schema import violations
from hardviews.launch.chart.values import chart_folder, defaults, merge, read_values
from hardviews.launch.chart.wording import in_values
from hardviews.launch.command_check import Job, check
from hardviews.launch.kubernetes.cluster import JOBS
from hardviews.launch.kubernetes.scheduler import create_scheduler
from hardviews.launch.torchx_run import CmdRunFile, JobRunner
from hardviews.launch.validate_command import configure
from tests.launch.kubernetes.clusters import HOME, Few, refusal
from tests.launch.kubernetes.jobs import manifest

ROOT = Path(__file__).parents[2]
CHART = ROOT / "charts" / "hardviews"
SITE = {"image": "registry/hardviews:1", "data": "s3://b/d", "output": "s3://b/o", "tracking": "http://m:5000"}


class Reader:
    """Reads the words of commands in this process, which has the imports already."""

    made: ClassVar[list["Reader"]] = []

    def __init__(self, job: Job) -> None:
        self.jobs, self.failure = [job], None
        Reader.made.append(self)

    def begin(self, job: Job) -> None:
        self.jobs.append(job)

    def words(self):
        return ([] if self.failure else check(self.jobs[-1])[0]), [], self.failure

    def places(self, store):
        return [], [], None

    def close(self):
        return


@pytest.fixture(autouse=True)
def place(monkeypatch, tmp_path):
    """The checkout, in which nobody has said anything about a site or a cluster."""
    for name in (*(value.variable for value in site.VALUES), site.NAMESPACE, site.QUEUE, site.SECRETS):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "KUBERNETES_SERVICE_HOST"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    file = tmp_path / "torchxconfig"
    file.write_text("[kubernetes]\nqueue = default\n")
    monkeypatch.setenv("TORCHXCONFIG", str(file))
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    monkeypatch.setenv("OMP_WAIT_POLICY", "PASSIVE")
    monkeypatch.setattr(Reader, "made", [])
    monkeypatch.setattr(examiner, "Preflight", Reader)
    monkeypatch.chdir(ROOT)


@pytest.fixture
def values(tmp_path):
    """Writes a file of values: those of a site, and more."""

    def write(more: dict[str, Any], name: str = "values.yaml") -> str:
        file = tmp_path / name
        file.write_text(yaml.safe_dump({**SITE, **more}))
        return str(file)

    return write


def refused(capfd, call, *arguments) -> str:
    with pytest.raises(SystemExit) as end:
        call(*arguments)
    printed = capfd.readouterr()
    assert (end.value.code, printed.out) == (2, ""), printed
    assert "Traceback" not in printed.err
    return printed.err


def torchx_run(words: list[str]) -> None:
    command, parser = CmdRunFile(), argparse.ArgumentParser()
    command.add_arguments(parser)
    command.run(parser.parse_args(["-s", "kubernetes", "--dryrun", *words]))


def torchx_words(arguments: str, cfg: str) -> list[str]:
    given = [word for name, value in SITE.items() for word in (f"--{name}", value) if f"--{name} " not in arguments]
    return [*(["-cfg", cfg] if cfg else []), "jobs/pretrain.py", *given, *arguments.split()]


# Arguments of jobs/pretrain.py, run options, values of the chart's `pretrain`, and of the chart.
MISTAKES: list[tuple[str, str, dict[str, Any], dict[str, Any]]] = [
    ("-j 3:1x1", "", {"j": "3:1x1"}, {}),
    ("-j two", "", {"j": "two"}, {}),
    ("-j 0x1", "", {"j": "0x1"}, {}),
    ("-j 1:2x4 --gpu 8", "", {"j": "1:2x4", "gpu": 8}, {}),
    ("--cpu 0", "", {"cpu": 0}, {}),
    ("--memMB 0", "", {"memMB": 0}, {}),
    ("--shm 5000", "", {"shm": 5000}, {}),
    ("--shm 5000", "", {}, {"pod": {"shm": 5000}}),
    ("--shm 0", "", {"shm": 0}, {}),
    ("--scratch -1", "", {"scratch": -1}, {}),
    ("--ttl -1", "", {"ttl": -1}, {}),
    ("--ttl 3000000000", "", {"ttl": 3000000000}, {}),
    ("", "ttl=-1", {}, {"pod": {"ttl": -1}}),
    ("--grace -1", "", {"grace": -1}, {}),
    ("--toleration a:Never", "", {"tolerations": ["a:Never"]}, {}),
    ("--node_selector disk=-ssd", "", {"nodeSelector": {"disk": "-ssd"}}, {}),
    ("--node_selector .a=ssd", "", {"nodeSelector": {".a": "ssd"}}, {}),
    ("", "labels=team:-a", {}, {"pod": {"labels": {"team": "-a"}}}),
    ("--secret Store", "", {"secrets": ["Store"]}, {}),
    ("", "secrets=Store", {}, {"secrets": ["Store"]}),
    ("", "image_pull_secrets=Registry", {}, {"imagePullSecrets": ["Registry"]}),
    ("", "service_account=Trainer", {}, {"pod": {"serviceAccount": "Trainer"}}),
    ("--priority High", "", {"priorityClass": "High"}, {}),
    ("", "image_pull_policy=Sometimes", {}, {"pod": {"imagePullPolicy": "Sometimes"}}),
    ("", "run_as_user=0", {}, {"pod": {"runAsUser": 0}}),
    ("--env 1A=x", "", {"env": {"1A": "x"}}, {}),
    ("--env MY_PASSWORD=x", "", {"env": {"MY_PASSWORD": "x"}}, {}),
    ("--tracking http://me:word@m:5000", "", {}, {"tracking": "http://me:word@m:5000"}),
    ("--tracking http://localhost:5000", "", {}, {"tracking": "http://localhost:5000"}),
    ("--data /folder", "", {}, {"data": "/folder"}),
    ("--data /folder", "", {"data": "/folder"}, {}),
    ("--output s3:///o", "", {}, {"output": "s3:///o"}),
    ("--mount type=volume,src=Claim,dst=/d", "", {"mounts": [{"type": "volume", "src": "Claim", "dst": "/d"}]}, {}),
    ("--mount type=volume,src=a,dst=d", "", {}, {"pod": {"mounts": [{"type": "volume", "src": "a", "dst": "d"}]}}),
    ("--mount type=bind,src=a,dst=/d", "", {"mounts": [{"type": "bind", "src": "a", "dst": "/d"}]}, {}),
    ("--mount type=tmpfs,src=a,dst=/d", "", {"mounts": [{"type": "tmpfs", "src": "a", "dst": "/d"}]}, {}),
    (
        "--mount type=volume,src=a,dst=/d,type=volume,src=b,dst=/d",
        "",
        {"mounts": [{"type": "volume", "src": "b", "dst": "/d"}]},
        {"pod": {"mounts": [{"type": "volume", "src": "a", "dst": "/d"}]}},
    ),
    ("--recipe nobody", "", {"recipe": "nobody"}, {}),
    ("--recipe smoke -- --training.epoch 3", "", {"recipe": "smoke", "args": ["--training.epoch", "3"]}, {}),
    ("--recipe smoke -j 1:7x1", "", {"recipe": "smoke", "j": "1:7x1"}, {}),
    ("--scratch 100", "", {"scratch": 100}, {}),
    (
        "--recipe smoke -- --precision.device cuda",
        "",
        {"recipe": "smoke", "args": ["--precision.device", "cuda"]},
        {},
    ),
]


def sentences(printed: str, program: str) -> list[str]:
    """The mistakes in a message, one or a numbered list."""
    assert printed.startswith(f"{program}: ")
    heading, *listed = printed.removeprefix(f"{program}: ").splitlines()
    assert ("things are wrong" in heading) == bool(listed)
    return [re.sub(r"^  \d+\. ", "", line) for line in listed] or [heading]


@pytest.mark.parametrize(("arguments", "cfg", "job", "chart"), MISTAKES)
def test_one_mistake_has_one_sentence(arguments, cfg, job, chart, values, capfd):
    words = torchx_words(arguments, cfg)
    by_torchx = sentences(refused(capfd, torchx_run, words), "torchx run")
    assert sentences(refused(capfd, cli.main, ["validate", "--", *words]), "hardviews") == by_torchx
    file = values({**chart, "pretrain": {"enabled": True, **job}})
    by_chart = sentences(refused(capfd, cli.main, ["validate", file]), "hardviews")
    assert by_chart == [f"pretrain: {in_values(sentence)}" for sentence in by_torchx]


def test_many_mistakes_are_a_numbered_list_and_several_jobs_share_a_sentence(values, capfd):
    said = refused(capfd, cli.main, ["validate", "--", *torchx_words("--cpu 0 --recpie smoke --ttl -1", "queues=a")])
    assert said.startswith("hardviews: 4 things are wrong:\n  1. -cfg queues is no run option")
    assert [line[:5] for line in said.splitlines()[1:]] == ["  1. ", "  2. ", "  3. ", "  4. "]
    off = {"enabled": True, "cpu": 0}
    said = refused(capfd, cli.main, ["validate", values({"pretrain": off, "knn": off, "imge": "x"})])
    assert "1. The chart has no value imge. Did you mean image?" in said
    assert "2. pretrain: The role trainer asks for 0 CPU." in said
    assert "3. knn: The role evaluation asks for 0 CPU." in said
    said = refused(
        capfd, cli.main, ["validate", values({"data": "/d", "pretrain": {"enabled": True}, "knn": {"enabled": True}})]
    )
    assert said.startswith("hardviews: pretrain, knn: --data /d is a folder inside the pod")


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"imge": "x"}, "The chart has no value imge. Did you mean image?"),
        ({"pretrain": {"recipes": "x"}}, "pretrain has no key recipes. Did you mean pretrain.recipe?"),
        ({"zzz": 1}, "The chart has no value zzz. It has image, data,"),
        ({"pretrain": {"gpu": "two"}}, "pretrain.gpu two cannot be read: give a whole number."),
        ({"pretrain": {"gpu": "2"}}, "pretrain.gpu 2 cannot be read: give a whole number, without quotes."),
        ({"pretrain": {"gpu": 1.5}}, "pretrain.gpu 1.5 cannot be read: give a whole number."),
        ({"pretrain": {"gpu": None}}, "pretrain.gpu null cannot be read: give a whole number."),
        (
            {"pretrain": {"enabled": "true"}},
            "pretrain.enabled true cannot be read: give true or false, without quotes.",
        ),
        ({"pretrain": {"j": 4}}, 'pretrain.j 4 cannot be read: give text, in quotes: "4".'),
        ({"pretrain": {"env": {"A": True}}}, 'pretrain.env.A true cannot be read: give text, in quotes: "true".'),
        ({"pretrain": "on"}, "pretrain on cannot be read: give keys with values."),
        ({"secrets": "store"}, "secrets store cannot be read: give a list: [store]."),
        ({"secrets": ["a", 5]}, 'secrets[1] 5 cannot be read: give text, in quotes: "5".'),
        ({"pretrain": {"shm": "much"}}, "pretrain.shm much cannot be read: give a whole number."),
        ({"pod": {"mounts": [{"type": "volume", "src": "a"}]}}, "pod.mounts[0] lacks dst."),
        ({"pretrain": {"wait": -5}}, "pretrain.wait is -5, and must be at least 0."),
        ({"linear": {"cpu": 0}}, "linear.cpu is 0, and must be at least 1."),  # not enabled: no job shows it
        ({"linear": {"schedule": "daily"}}, "linear.schedule is daily, which is not of the right form."),
        ({"pretrain": {"recipe": ""}}, 'pretrain.recipe is "", and must be not empty.'),
        ({"queue": ""}, 'queue is "", which is not of the right form.'),
        ({"priorityClassSpec": {"preemptionPolicy": "No"}}, "preemptionPolicy is No. Choose from PreemptLowerPriority"),
        ({"commonLabels": {".a": "b"}}, "commonLabels has the key .a, which is not of the right form."),
    ],
)
def test_what_the_schema_refuses_is_said_by_the_path_of_the_value(given, sentence, values):
    given = (
        {"pretrain": {"enabled": True, **given.pop("pretrain")}} if isinstance(given.get("pretrain"), dict) else given
    )
    (text,) = examine_chart([values(given)], CHART).mistakes
    assert sentence in text


@pytest.mark.parametrize("name", [value.argument for value in site.VALUES])
def test_a_value_of_the_site_is_not_taken_from_the_environment_for_a_chart(name, values, monkeypatch):
    for value in site.VALUES:
        monkeypatch.setenv(value.variable, "s3://of/the/environment")
    (text,) = examine_chart([values({name: "", "pretrain": {"enabled": True}})], CHART).mistakes
    assert text.startswith(f"pretrain: {name} is empty (")


@pytest.mark.parametrize(
    ("release", "longer"), [("hardviews-of-my-team-a1234", 0), ("hardviews-of-my-team-a12345678", 3)]
)
def test_names_of_pods_are_as_long_as_the_chart_makes_them(release, longer, values):
    texts = examine_chart([values({"pretrain": {"enabled": True}})], CHART, release=release).mistakes
    assert len(texts) == bool(longer)
    assert all(f"a name that is {longer} shorter" in text for text in texts)


def test_one_entry_that_is_wrong_twice_is_said_by_the_schema(values):
    mounts = [{"type": "tmpfs", "src": 5, "dst": "/d"}]
    texts = examine_chart([values({"pretrain": {"enabled": True, "mounts": mounts}})], CHART).mistakes
    assert [text.partition(" ")[0] for text in texts] == ["pretrain.mounts[0].src", "pretrain.mounts[0].type"]


def test_a_source_to_pack_is_needed(values):
    (text,) = examine_chart([values({"pack": {"enabled": True}})], CHART).mistakes
    assert text.startswith("pack: source is empty.")


# Correct input


def test_a_job_without_mistakes_is_one_line(values, capfd):
    cli.main(["validate", "--", *torchx_words("--recipe smoke", "")])
    printed = capfd.readouterr()
    assert printed.out == (
        "Nothing is wrong with jobs/pretrain.py. Checked: the arguments, the settings of the pods, the words of the "
        "command. `--cluster` asks the cluster too.\n"
    )
    file = values({"pretrain": {"enabled": True, "recipe": "smoke"}, "knn": {"enabled": True, "j": "1:3"}})
    cli.main(["validate", file])
    printed = capfd.readouterr()
    assert printed.out == (
        f"Nothing is wrong with {file}. Checked: the schema of the chart, the jobs pretrain, knn, the settings of the "
        "pods, the words of the command. `--cluster` asks the cluster too.\n"
    )
    assert printed.err == ""
    assert [len(reader.jobs) for reader in Reader.made] == [1, 2], "one process reads the commands of all jobs"


def test_the_defaults_of_the_chart_satisfy_its_schema():
    assert violations(defaults(CHART), CHART) == []


def test_values_without_a_job_are_right_and_said_to_hold_none(values, capfd):
    cli.main(["validate", values({})])
    assert "No job is enabled." in capfd.readouterr().err


def test_a_command_that_could_not_be_read_is_not_called_checked(values, capfd, monkeypatch):
    monkeypatch.setattr(Reader, "words", lambda self: ([], [], "it took too long"))
    cli.main(["validate", values({"pretrain": {"enabled": True}, "knn": {"enabled": True}})])
    printed = capfd.readouterr()
    assert "The command was not checked here (it took too long)" in printed.err
    assert "the words of the command" not in printed.out
    assert len(Reader.made) == 2, "an answer that comes late is not taken for that of the next job"


def test_every_job_of_the_chart_is_the_job_of_torchx(values):
    enabled: dict[str, Any] = {key: {"enabled": True} for key in ("knn", "linear", "fewshot")}
    enabled |= {"pack": {"enabled": True, "source": "digits"}, "pretrain": {"enabled": True, "recipe": "smoke"}}
    enabled["transfer"] = {"enabled": True, "args": ["--sets", "s3://b/set"]}
    enabled |= {"finetune": {"enabled": True, "output": "s3://b/t"}, "classify": {"enabled": True}}
    assert examine_chart([values(enabled)], CHART).mistakes == []
    commands = [job.words[0] for reader in Reader.made for job in reader.jobs]
    assert commands == ["pack", "pretrain", "finetune", "knn", "linear", "fewshot", "transfer", "classify"]
    words = {job.words[0]: job.words for reader in Reader.made for job in reader.jobs}
    assert words["pretrain"] == ["pretrain", "smoke", "--data", "s3://b/d", "--output", "s3://b/o"]
    assert words["knn"] == ["knn", "--run", "s3://b/o", "--data", "s3://b/d", "--wait", "86400"]
    assert words["finetune"][:6] == ["finetune", "s3://b/o", "--recipe", "digits_finetune", "--data", "s3://b/d"]
    assert words["finetune"][6:] == ["--output", "s3://b/t", "--wait", "86400"]
    assert words["classify"][:3] == ["classify", "--run", "s3://b/t"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "finetune: finetune.output is empty. Give a URL"),
        ({"output": "s3://b/o"}, "finetune: --output s3://b/o is the run that is fine-tuned"),
        ({"output": "s3://b/t", "recipe": "digits"}, "finetune: The recipe digits does not train by labels alone"),
        ({"output": "s3://b/t", "args": ["--labels", "few"]}, "finetune: --labels few is not a number of labels"),
    ],
)
def test_mistakes_of_a_fine_tuning_are_found(values, given, message):
    found = examine_chart([values({"finetune": {"enabled": True, **given}})], CHART)
    assert [text[: len(message)] for text in found.mistakes] == [message]


def test_a_fine_tuning_without_an_encoder_is_refused(values):
    found = examine_chart([values({"output": "", "finetune": {"enabled": True, "output": "s3://b/t"}})], CHART)
    assert found.mistakes == [
        "finetune: run is empty, and so is the chart's output. Give the encoder that is trained further."
    ]


def test_the_servers_of_the_chart_are_those_of_its_jobs(values):
    chart = {"objectStore": {"enabled": True}, "mlflow": {"enabled": True}, "tracking": ""}
    assert examine_chart([values({**chart, "pretrain": {"enabled": True}})], CHART, release="a").mistakes == []
    (job,) = Reader.made[0].jobs
    assert job.variables["MLFLOW_TRACKING_URI"] == "http://a-hardviews-mlflow:5000"
    assert job.variables["AWS_ENDPOINT_URL"] == "http://a-hardviews-store:8333"


def test_the_commands_of_the_documentation_run(tmp_path, monkeypatch, capfd):
    text = (ROOT / "docs" / "cluster.md").read_text()
    section = text[text.index("\n## Check before you submit\n") :]
    shown = re.findall(r"^```text\n(.*?)^```$", section[: section.index("\n## ", 5)], re.MULTILINE | re.DOTALL)
    (tmp_path / "values.yaml").write_text(shown[0])
    for name, value in zip(("HARDVIEWS_IMAGE", "HARDVIEWS_DATA", "HARDVIEWS_OUTPUT"), SITE.values(), strict=False):
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", SITE["tracking"])
    commands = [shlex.split(line)[1:] for line in shown[1].splitlines()]
    assert len(commands) == 3 and all(words[0] == "validate" for words in commands)
    (tmp_path / "jobs").symlink_to(ROOT / "jobs")
    monkeypatch.chdir(tmp_path)
    for words in commands:
        if "--cluster" in words:
            assert "No Kubernetes cluster is known here" in refused(capfd, cli.main, words)
        else:
            cli.main(words)
            assert capfd.readouterr().out.startswith("Nothing is wrong with ")
    with pytest.raises(SystemExit):
        (tmp_path / "values.yaml").write_text(shown[0].replace("gpu: 8", "gpu: 4"))
        cli.main(commands[0])
    assert capfd.readouterr().err == shown[2]


# Files


def test_a_later_file_wins_key_by_key(tmp_path):
    one, two = tmp_path / "1.yaml", tmp_path / "2.yaml"
    one.write_text("pretrain: {cpu: 4, gpu: 1}\nsecrets: [a, b]\n")
    two.write_text("pretrain: {gpu: 2}\nsecrets: [c]\n")
    assert read_values([str(one), str(two)]) == {"pretrain": {"cpu": 4, "gpu": 2}, "secrets": ["c"]}
    two.write_text("")
    assert read_values([str(two)]) == {}


def test_yaml_is_read_as_helm_does(tmp_path):
    file = tmp_path / "values.yaml"
    file.write_text("a: 1:2\nb: 2:30x8\nc: 12\nd: 1e3\ne: .5\nf: '7'\ng: yes\nh: 1:2:3\ni: -3\n")
    read = read_values([str(file)])
    assert read == {
        "a": "1:2",
        "b": "2:30x8",
        "c": 12,
        "d": 1000.0,
        "e": 0.5,
        "f": "7",
        "g": True,
        "h": "1:2:3",
        "i": -3,
    }


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: [1", "values.yaml, line 2, is not valid YAML"),
        ("a: 1\nb: 2\na: 3", "line 1, is not valid YAML: the key a stands there twice"),
        ("- a", "does not hold keys with values"),
        ("5: a", "does not hold keys with values"),
        (b"\xff\xfe\xff", "cannot be read"),
        ("a: !!python/object:os.system x", "is not valid YAML"),
    ],
)
def test_a_file_that_cannot_be_read_is_one_sentence(text, words, tmp_path, capfd):
    file = tmp_path / "values.yaml"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    assert words in refused(capfd, cli.main, ["validate", str(file)])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "Give either files of values"),
        (["a.yaml", "--", "jobs/knn.py"], "not both"),
        (["jobs/knn.py", "--image", "i"], "hardviews validate -- jobs/knn.py"),
        (["nothing.yaml"], "There is no file nothing.yaml"),
        (["--chart", "docs", "nothing.yaml"], "There is no Helm chart at docs"),
        (["--clster", "a.yaml"], "unrecognized arguments: --clster"),
        (["--namespace", "n", "--", "jobs/knn.py"], "-cfg namespace=NAME"),
        (["--", "-s", "local_cwd", "jobs/knn.py"], "checks jobs on Kubernetes"),
        (["--", "jobs/nothing.py"], "There is no component file jobs/nothing.py"),
        (["--"], "missing component name"),
        (["--", "jobs/pretrain.py", "-cfg", "queue=a"], "-cfg is an option of torchx run itself"),
        (["--", "-cfg", "queue", "jobs/pretrain.py"], "-cfg queue cannot be read"),
        (["--", "jobs/pack.py"], "--source"),
        (["--", "jobs/pretrain.py"], "The job pretrain lacks --image"),
    ],
)
def test_a_command_line_that_names_nothing_to_check_is_refused(words, said, capfd):
    assert said in refused(capfd, cli.main, ["validate", *words])


def test_the_chart_is_found_in_the_checkout(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert chart_folder(None) == CHART
    assert chart_folder(str(CHART)) == CHART
    with pytest.raises(UserError, match="--chart FOLDER"):
        chart_folder(str(tmp_path))


def test_help_explains_both_forms(capfd):
    with pytest.raises(SystemExit) as end:
        configure(["--help"])
    assert end.value.code == 0
    text = capfd.readouterr().out
    for part in ("VALUES.yaml", "--cluster", "--chart", "--", "jobs/pretrain.py"):
        assert part in text


# The cluster


def cluster_of(**objects: Any):
    scheduler = create_scheduler("test")
    scheduler._cluster = Few()
    scheduler._cluster.objects |= objects
    return scheduler


def test_the_cluster_is_asked_the_same_for_a_job_and_for_a_chart(values):
    quota = {"metadata": {"name": "q"}, "spec": {"hard": {"pods": "1"}}}
    objects = {f"{HOME}/resourcequotas": {"items": [quota]}, f"{HOME}/limitranges": refusal(403, "forbidden")}
    chart = {"secrets": ["store"], "pretrain": {"enabled": True, "recipe": "smoke"}}
    asked = examine_chart([values(chart)], CHART, True, "n", scheduler=cluster_of(**objects))
    with JobRunner(0, submits=False) as runner:
        runner._scheduler("kubernetes")._cluster = cluster_of(**objects)._cluster
        words = [*torchx_words("--recipe smoke", "")[1:], "--secret", "store"]
        cfg = {"queue": "default", "namespace": "n"}
        found = runner.examine_component("jobs/pretrain.py:pretrain", words, "kubernetes", cfg, online=True)
    assert [re.sub(r"^The (\w+) ", r"\1 ", text)[:30] for text in found.mistakes] == [
        "The namespace n has no secret store"[4:34],
        "The quota q of the namespace n allows"[4:34],
    ]
    assert asked.mistakes == [f"pretrain: {in_values(text)}" for text in found.mistakes]
    assert asked.unchecked[0] == "pretrain: limitranges (the right to list limitranges in the namespace n is missing)"
    assert asked.unchecked == [f"pretrain: {text}" for text in found.unchecked]
    assert "the cluster" in found.checked


@pytest.mark.parametrize(("release", "mistakes"), [("mine", 0), ("theirs", 1)])
def test_a_job_that_the_release_has_already_is_no_rival_of_itself(release, mistakes, values):
    """An upgrade with the same values does nothing, and one with others ends the job before it."""
    given = {"pretrain": {"enabled": True, "recipe": "smoke"}, "output": "s3://b/o"}
    (job,) = jobs_of(merge(defaults(CHART), read_values([values(given)])), "mine")
    made = manifest(job.app, queue="default")
    made["metadata"] |= {"name": "mine-hardviews-pretrain-0123456789", "labels": {"app.kubernetes.io/instance": "mine"}}
    there = cluster_of(**{f"{JOBS}/namespaces/n/jobs": {"items": [made]}})
    found = examine_chart([values(given)], CHART, True, "n", release=release, scheduler=there)
    assert len([text for text in found.mistakes if "trains into s3://b/o already" in text]) == mistakes


def test_what_the_chart_makes_itself_is_not_missed(values):
    chart = {
        "objectStore": {"enabled": True},
        "serviceAccount": {"create": True},
        "priorityClassSpec": {"create": True},
        "pod": {"priorityClass": "high"},
        "pretrain": {"enabled": True, "recipe": "smoke"},
    }
    scheduler = cluster_of()
    found = examine_chart([values(chart)], CHART, True, "n", release="a", scheduler=scheduler)
    assert (found.mistakes, found.unchecked) == ([], [found.unchecked[0]] if found.unchecked else [])
    assert all(
        "serviceAccountName" not in body["spec"] for path, body, _ in scheduler._cluster.created if "pods" in path
    )
    chart["serviceAccount"] = {"create": False}
    chart["pod"] = {"priorityClass": "high", "serviceAccount": "other"}
    (text,) = examine_chart([values(chart)], CHART, True, "n", release="a", scheduler=cluster_of()).mistakes
    assert "no service account other" in text


def test_without_a_cluster_the_question_to_it_is_one_sentence(values, capfd):
    said = refused(
        capfd, cli.main, ["validate", "--cluster", values({"pretrain": {"enabled": True, "recipe": "smoke"}})]
    )
    assert "pretrain: No Kubernetes cluster is known here" in said


@pytest.mark.parametrize("file", sorted((CHART / "ci").glob("*.yaml")), ids=lambda file: file.stem)
def test_the_examples_of_the_chart_are_right(file):
    assert examine_chart([str(file)], CHART).mistakes == []
