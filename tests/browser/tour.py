"""The pages of a pretraining run, one after the other, each with its required content; and pictures for docs/tour.md.

.venv/bin/python -m tests.browser.tour --server http://127.0.0.1:5000 --experiment 1 --run RUN \\
    --evaluation RUN --to docs/images
"""

import argparse
import json
import tempfile
import time
from pathlib import Path

from PIL import Image

from tests.browser.chromium import chromium

MENUS = "workflowType=machine_learning"
# State of the page that a first visit would change: the assistant would cover a third of it.
_CLOSED = {"mlflow.assistant.fab.autoOpenedOnFirstLoad_v1": "true", "mlflow.assistant.panelOpen_v1": "false"}
_CHARTS = "document.querySelectorAll('.js-plotly-plot .scatterlayer').length"
FEATURES = ("neighbours", "pca", "spectrum")  # and attention, of a transformer
_THUMBNAILS = "[...document.querySelectorAll('[role=row] img, table img')]"
_TITLES = """[...document.querySelectorAll('[data-testid="experiment-view-compare-runs-card"]')]
    .map(card => card.innerText.trim().split('\\n')[0])"""

# Without a mouse every chart shows its tools.
QUIET = "document.head.insertAdjacentHTML('beforeend', '<style>.modebar-container {display: none}</style>')"


class Tour:
    """Visits pages of one run; `pictures` is the folder for PNG files, None for none."""

    def __init__(self, browser, server, experiment, run, pictures=None):
        self.browser, self.pictures = browser, pictures
        self._experiment = f"{server}/#/experiments/{experiment}"
        self._run = f"{self._experiment}/runs/{run}"
        browser.open(server, 800, 600)
        browser.wait_for_text("MLflow")
        for key, value in _CLOSED.items():
            browser.value(f"localStorage.setItem({json.dumps(key)}, {json.dumps(value)})")

    def overview(self, *wanted):
        """The description, unfolded, and the panel with source, user and data set; return the text."""
        self.browser.open(f"{self._run}?{MENUS}", 1360, 900)
        self.browser.wait_for_text("Description", "About this run", "Datasets")
        self.browser.click('button[aria-label="Expand description"]')
        self.browser.wait_for_text(*wanted)
        self._picture("tour_overview")
        return self.browser.text()

    def charts(self):
        """The page of charts; return the titles of its first charts, in the order of the page."""
        self.browser.open(f"{self._run}/model-metrics?{MENUS}", 1360, 900)
        self.browser.wait(f"{_CHARTS} > 2")
        self._picture("tour_charts")
        return self.browser.value(_TITLES)

    def slider(self, *keys, moves=2, name="tour_pictures"):
        """The pictures of keys of one section: move each slider, and see the picture of each step.

        Return the steps that the first slider was on. MLflow writes all parameters above a picture; the picture is
        scrolled into sight.
        """
        section = _section(keys[0].partition("/")[0])
        self.browser.open(f"{self._run}/model-metrics?{MENUS}", 1360, 900 if len(keys) < 4 else 1000)
        self.browser.wait(f"{_CHARTS} > 0")
        # Charts are made when they come into sight.
        self.browser.wait(f"void {section}?.scrollIntoView() || !!{_slider(keys[0])}")
        steps = {key: self._moved(key, moves) for key in keys}
        if len(keys) > 1:
            self.browser.value(f"{section}?.scrollIntoView()")
        self._picture(name)
        return steps[keys[0]]

    def evaluation(self, run, *wanted):
        """The page of an evaluation: its table, data sets and encoder; return the text."""
        self.browser.open(f"{self._experiment}/runs/{run}?{MENUS}", 1360, 900)
        self.browser.wait_for_text("Description", "About this run", "Datasets", *wanted)
        self.browser.value("document.querySelector('button[aria-label=\"Expand description\"]')?.click()")
        self._picture("tour_evaluation")
        return self.browser.text()

    def table(self, run, path, *wanted):
        """A table of an evaluation, once its thumbnails are there; return the text."""
        self.browser.open(f"{self._experiment}/runs/{run}/artifacts/{path}?{MENUS}", 1360, 900)
        self.browser.wait_for_text(path, *wanted)
        # Images of the page are above its folders' names too: a thumbnail is made of the artifact's bytes.
        self.browser.wait(f"{_THUMBNAILS}.length > 0 && {_THUMBNAILS}.every(each => each.naturalWidth > 0)")
        self._picture("tour_mistakes")
        return self.browser.text()

    def artifact(self, path):
        """A picture of the run, large."""
        self.browser.open(f"{self._run}/artifacts/{path}?{MENUS}", 1360, 900)
        # The picture is made of the artifact's bytes; no other image of the page is as wide.
        self.browser.wait("[...document.images].some(each => each.naturalWidth > 400)")
        self._picture("tour_artifact")

    def nodes(self, *wanted):
        """The page of system metrics, with a chart for all nodes, once these texts are there; return the text."""
        self.browser.open(f"{self._run}/system-metrics?{MENUS}", 1360, 900)
        # Pictures come first on this page too, and charts are made when they come into sight.
        text = self.browser.wait_for_text(*wanted, sight=_section("system"))
        self._picture("tour_nodes")  # charts that leave the window lose their text
        return text

    def runs(self, view, *wanted):
        """The list of runs with the columns of a saved view."""
        self.browser.open(f"{self._experiment}/runs?viewStateShareKey={view}&{MENUS}", 1360, 420)
        self.browser.wait_for_text(*wanted)
        self._picture("tour_runs")
        return self.browser.text()

    def _moved(self, key, moves):
        """Move the slider of a key so often; return the steps that it was on."""
        self.browser.wait(f"!!{_slider(key)}")
        self.browser.value(f"{_slider(key)}?.scrollIntoView({{block: 'center'}})")
        steps = [self._step(key)]
        for _ in range(moves):
            while self._step(key) <= steps[-1]:
                self.browser.value(f"{_slider(key)}?.focus()")
                self.browser.press("ArrowRight", 39)
            steps.append(self._step(key))
            images = f"[...({_card(key)}?.querySelectorAll('img') ?? [])]"
            image = f"{images}.find(each => each.src.includes('step%2B{steps[-1]}%2B'))"
            self.browser.wait(f"!!{image}")
            self.browser.value(f"{image}?.scrollIntoView({{block: 'center'}})")
            self.browser.wait(f"{image}?.naturalWidth > 0")
        return steps

    def _step(self, key):
        # The page draws its charts anew now and then.
        shown = self.browser.wait(f"{_slider(key)} && 'at ' + {_slider(key)}.getAttribute('aria-valuenow')")
        return int(shown.removeprefix("at "))

    def _picture(self, name):
        if self.pictures is not None:
            self.browser.value(QUIET)
            time.sleep(2)  # for the eye alone: pages fade and move
            file = self.pictures / f"{name}.png"
            self.browser.picture(file)
            with Image.open(file) as image:
                image.convert("P", palette=Image.Palette.ADAPTIVE, colors=128).save(file, optimize=True)


def _section(name):
    return f"""[...document.querySelectorAll('[data-testid="experiment-view-compare-runs-section-header"]')]
        .find(each => each.innerText.toLowerCase().startsWith({json.dumps(name)}))"""


def _card(key):
    return f"""[...document.querySelectorAll('[data-testid="experiment-view-compare-runs-card"]')]
        .find(each => each.innerText.includes({json.dumps(key)}))"""


def _slider(key):
    return f"{_card(key)}?.querySelector('[role=slider]')"


def main():
    """Take the pictures."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("server", "experiment", "run", "evaluation", "to"):
        parser.add_argument(f"--{name}", required=True)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as profile, chromium(Path(profile)) as browser:
        tour = Tour(browser, given.server, given.experiment, given.run, Path(given.to))
        tour.overview("Go on from here")
        tour.charts()
        tour.slider("views/gallery")
        tour.slider(*(f"features/{name}" for name in FEATURES), moves=3, name="tour_features")
        tour.nodes()
        tour.runs("hardviews", "Run Name")
        tour.evaluation(given.evaluation)
        tour.table(given.evaluation, "tables/mistakes.json", "confidence")


if __name__ == "__main__":
    main()
