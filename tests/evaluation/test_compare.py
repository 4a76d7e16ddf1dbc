import numpy as np
import pytest
from rich.console import Console

from hardviews.cli import main
from hardviews.errors import UserError
from hardviews.evaluation.compare import Compare, Judged, run_compare, table
from hardviews.tracking.mlflow_run import Run


def judged(name, correct, seed="0"):
    return Judged(name, (("recipe", name),), seed, np.asarray(correct))


def lines(*found):
    console = Console(width=140, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(table("knn", found))
    return console.export_text()


def random(seed, share, count=2000):
    return np.random.default_rng(seed).random(count) < share


def test_runs_that_do_not_differ_are_said_not_to():
    base = random(0, 0.7)
    other = base.copy()
    other[:6] ^= True
    assert "no difference shown" in lines(judged("a", base), judged("b", other))


def test_a_difference_is_shown_with_its_interval():
    base = random(0, 0.7)
    better = base | (random(1, 0.2))
    shown = lines(judged("a", base), judged("b", better))
    assert "differs on these images; seeds may differ more" in shown and "+" in shown


def test_seeds_are_a_group_with_mean_and_deviation():
    runs = [judged("a", random(seed, 0.7), str(seed)) for seed in range(3)]
    runs += [judged("b", random(seed, 0.9), str(seed)) for seed in range(3, 6)]
    shown = lines(*runs)
    assert shown.count("std ") == 2 and "differs between seeds" in shown


@pytest.fixture
def evaluated(project):
    """A pretraining run and two evaluations of it on a test set."""

    def make(share, test="t" * 64, text=None):
        with Run.start("exp", "pretrain", folder=project) as run:
            run.log_params({"training.seed": 0, "recipe": f"r{share}"})
        tags = {"hardviews.evaluation": "knn", "hardviews.dataset.test": test}
        with Run.start("exp", "knn", parent=run.run_id, tags=tags, folder=project) as child:
            correct = random(int(100 * share), share, 300).astype(int)
            rows = [f"{place},1,{right},{right}" for place, right in enumerate(correct)]
            child.log_text(text or "\n".join(["sample,label,prediction,correct", *rows, ""]), "predictions.csv")
        return run.run_id

    return make


def test_runs_are_compared_by_their_evaluations(evaluated, project, capsys):
    first, second = evaluated(0.5), evaluated(0.9)
    main(["compare", first, second, "--project", str(project)])
    said = capsys.readouterr().out
    assert "knn: top-1 on 300 test images" in said and "differs" in said


def test_runs_are_compared_on_every_set_that_all_of_them_have(project, capsys):
    """Each set by itself, whatever was evaluated last; the newest evaluation of a set counts."""
    runs = []
    for number, sets in enumerate((("pets", "cars", "pets"), ("cars", "pets", "food"))):
        with Run.start("exp", f"run {number}", folder=project) as run:
            run.log_params({"recipe": f"r{number}"})
        runs.append(run.run_id)
        for place, name in enumerate(sets):
            tags = {"hardviews.evaluation": "transfer", "hardviews.dataset.test": name * 12}
            with Run.start("exp", f"transfer {name}/test", parent=run.run_id, tags=tags, folder=project) as child:
                right = 100 if name == "cars" else 50 + place
                lines = [f"{k},1,{int(k < right)},{int(k < right)}" for k in range(200 if name == "cars" else 100)]
                child.log_text("\n".join(["sample,label,prediction,correct", *lines, ""]), "predictions.csv")
    main(["compare", *runs, "--project", str(project)])
    said = capsys.readouterr().out
    cars, pets = said.index("transfer cars/test: top-1 on 200"), said.index("transfer pets/test: top-1 on 100")
    tables = sorted((cars, pets))
    of_pets = said[pets : tables[1] if pets == tables[0] else None]
    assert " 52.00" in of_pets and " 51.00" in of_pets and "50.00" not in of_pets.replace("to 50.00", "")
    assert "transfer food/test (digest foodfoodfood) is left out" in said


def test_runs_that_cannot_be_compared_are_reported(evaluated, project, tmp_path):
    first = evaluated(0.5)
    with Run.start("exp", "pretrain", folder=project) as bare:
        pass
    cases = [
        ((first,), "name two runs"),
        ((first, bare.run_id), f"{bare.run_id} lacks an evaluation that all of them have .has none."),
        ((first, evaluated(0.6, test="u" * 64)), "on different test sets"),
        ((first, str(tmp_path)), "no run at"),
        ((first, evaluated(0.7, text="nonsense")), "has no predictions.csv that can be read"),
        ((first, "0" * 32), "not in the tracking store"),
    ]
    for runs, words in cases:
        with pytest.raises(UserError, match=words):
            run_compare(Compare(runs, project=str(project)))
    with pytest.raises(UserError, match="lacks linear"):
        run_compare(Compare((first, evaluated(0.8)), protocol="linear", project=str(project)))
