"""Tables of mistakes: which rows they have, and that MLflow reads them with their thumbnails."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from hardviews.data.folder import image_folder
from hardviews.data.pack import pack
from hardviews.data.reader import Reader
from hardviews.evaluation.mistakes import CONFUSIONS, MISTAKES, confused, most_confident
from hardviews.evaluation.probes.knn import Knn, evaluate_knn
from hardviews.evaluation.probes.linear import Linear, evaluate_linear
from hardviews.evaluation.result import Scores
from hardviews.evaluation.scores import confidence
from hardviews.views.decode import decode
from tests.evaluation.test_evaluate import encoder, make_images, pretrained

__all__ = ["encoder", "pretrained"]


@pytest.fixture(scope="session")
def unclear(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Datasets in which every fifth test image lies in the folder of another class."""
    folder = tmp_path_factory.mktemp("unclear")
    for seed, (part, count) in enumerate({"train": 20, "test": 10}.items()):
        make_images(folder / "images" / part, count, seed)
    for name, wrong in (("blue", "green"), ("red", "blue")):
        for file in sorted((folder / "images" / "test" / name).glob("*"))[::5]:
            file.rename(folder / "images" / "test" / wrong / f"moved_{name}_{file.name}")
    for part in ("train", "test"):
        pack(image_folder(str(folder / "images" / part)), str(folder / part))
    return folder


def scores(predictions: list[int], sure: list[float]) -> Scores:
    return Scores({}, {}, torch.tensor(predictions), torch.tensor(sure, dtype=torch.double))


predicted = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3), st.integers(0, 5)), min_size=1, max_size=60)


@settings(max_examples=100, deadline=None)
@given(predicted, st.integers(1, 10))
def test_rows_are_those_of_a_plain_search(samples, most) -> None:
    labels, found, sure = (list(column) for column in zip(*samples, strict=True))
    made = scores(found, [number / 5 for number in sure])
    wrong = [place for place in range(len(labels)) if labels[place] != found[place]]
    expected = sorted(wrong, key=lambda place: (-sure[place], place))
    assert most_confident(made, torch.tensor(labels), most) == expected[:most]
    pairs = {}
    for place in expected:
        pairs.setdefault((labels[place], found[place]), []).append(place)
    ordered = sorted(pairs.items(), key=lambda item: (-len(item[1]), item[0]))[:most]
    assert confused(made, torch.tensor(labels), most) == [(*pair, len(all_of), all_of[0]) for pair, all_of in ordered]


def test_the_confidence_is_a_share_of_votes_or_a_softmax() -> None:
    votes = torch.tensor([[3.0, 1.0, 0.0], [0.2, 0.2, 0.4]])
    assert confidence("knn", votes).tolist() == pytest.approx([0.75, 0.5])
    logits = torch.tensor([[1000.0, 0.0, -1000.0], [0.5, 0.5, 0.5]])
    assert confidence("linear", logits).tolist() == pytest.approx([1.0, 1 / 3])


def table(client, run_id: str, path: str, folder: Path) -> list[dict]:
    """Return the rows of a table, and check that its thumbnails are there."""
    where = Path(client.download_artifacts(run_id, "", str(folder)))
    content = json.loads((where / path).read_text())
    rows = [dict(zip(content["columns"], row, strict=True)) for row in content["data"]]
    for row in rows:
        for cell in row.values():
            if isinstance(cell, dict):
                assert cell["type"] == "image"
                for name in ("filepath", "compressed_filepath"):
                    with Image.open(where / cell[name]) as image:
                        assert max(image.size) <= 96
    return rows


@pytest.mark.parametrize("protocol", ["knn", "linear"])
def test_an_evaluation_has_tables_of_its_mistakes(unclear, project, client, pretrained, tmp_path, protocol) -> None:
    options = {"data": str(unclear), "baselines": False, "project": str(project), "device": "cpu"}
    run = evaluate_knn if protocol == "knn" else evaluate_linear
    config = Knn if protocol == "knn" else Linear
    result = run(config(pretrained[0], **options))
    (tmp_path / "got").mkdir()
    mistakes = table(client, result.run_id, MISTAKES, tmp_path / "got")
    wrong = round(30 * (1 - result.metrics["pretrained"][f"{protocol}/top1"] / 100))
    assert len(mistakes) == wrong > 0
    assert list(mistakes[0]) == [*("image", "true", "predicted", "confidence", "nearest", "class of nearest", "sample")]
    sure = [row["confidence"] for row in mistakes]
    assert sure == sorted(sure, reverse=True) and all(0 <= one <= 1 for one in sure)
    assert all(row["true"] != row["predicted"] for row in mistakes)
    # Thumbnails are of the samples that are named.
    reader = Reader(str(unclear / "test"))
    originals = {sample.key: decode(sample.data) for sample in reader.read(range(30))}
    reader.close()
    for row in mistakes:
        with Image.open(tmp_path / "got" / row["image"]["filepath"]) as image:
            # 24 x 20 pixels, each shown as a square of 16.
            assert np.array_equal(np.asarray(image), originals[row["sample"]].repeat(4, 0).repeat(4, 1))
    pairs = table(client, result.run_id, CONFUSIONS, tmp_path / "got")
    assert sum(row["count"] for row in pairs) == wrong
    assert list(pairs[0]) == ["example", "true", "predicted", "count", "share of the true class (%)"]
    listed = json.loads(client.get_run(result.run_id).data.tags["mlflow.loggedArtifacts"])
    assert [entry["path"] for entry in listed] == [MISTAKES, CONFUSIONS]


def test_tables_that_fail_cost_no_score(unclear, project, client, pretrained, monkeypatch, caplog) -> None:
    monkeypatch.setattr("hardviews.evaluation.mistakes.decode", lambda data: 1 / 0)
    options = {"data": str(unclear), "baselines": False, "project": str(project), "device": "cpu"}
    result = evaluate_knn(Knn(pretrained[0], **options))
    assert result.logged and "knn/top1" in client.get_run(result.run_id).data.metrics
    assert f"{MISTAKES} is left out" in caplog.text and f"{CONFUSIONS} is left out" in caplog.text
    assert not client.list_artifacts(result.run_id, "tables")
