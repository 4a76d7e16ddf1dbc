"""Recipes hold the published values, name their sources, and are listed."""

import math
import re

import pytest

from hardviews.methods.simclr import SimCLRConfig
from hardviews.methods.vicreg import VICRegConfig
from hardviews.recipes import CHEAP, IMAGENET, RECIPES
from hardviews.recipes.cheap import cheaper
from hardviews.recipes.header import header
from hardviews.recipes.table import in_short, shown, table
from hardviews.strategies.adversarial import Adversarial
from hardviews.strategies.compose import Chain, Sum
from hardviews.strategies.cutmix import CutMix
from hardviews.strategies.hard_views import HardViews
from hardviews.strategies.in_turn import InTurn
from hardviews.strategies.mixup import MixUp
from hardviews.strategies.random_views import RandomViews
from hardviews.strategies.strategy import Clean, Strategy
from hardviews.tracking.flatten import flatten
from tests.recipes.published import PUBLISHED
from tests.recipes.resolved import method_of, resolved

NAMES = [function.__name__ for function in IMAGENET]
CHEAPLY = [function.__name__ for function in CHEAP]

# In the formulas of hours.
_WORDS = {
    "3 min 13 s": "193/3600",
    "3 min 40 s": "220/3600",
    " on twice as many GPUs": "/2",
    " on four times as many GPUs": "/4",
}


def duration(name: str) -> str:
    """Return a header's hours, or else its minutes."""
    facts = header(RECIPES[name]).facts
    return facts.get("hours") or facts["time"]


def test_every_imagenet_recipe_is_held_against_its_publication() -> None:
    assert sorted(NAMES) == sorted(PUBLISHED)


@pytest.mark.parametrize("name", NAMES)
def test_values_are_the_published_ones(name: str) -> None:
    found, wanted = resolved(name), PUBLISHED[name].values
    same = {
        key: found[key] == (pytest.approx(value) if isinstance(value, float) else value)
        for key, value in wanted.items()
    }
    different = {key: (found[key], wanted[key]) for key, equal in same.items() if not equal}
    assert different == {}, PUBLISHED[name].source


def test_a_wrong_value_is_found() -> None:
    assert resolved("simsiam_r50_100")["rate"] != pytest.approx(PUBLISHED["simsiam_r50_100_hvs"].values["rate"])


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_is_named_like_its_function(name: str) -> None:
    assert RECIPES[name]().name == name == RECIPES[name].__name__


@pytest.mark.parametrize("name", RECIPES)
def test_headers_say_how_to_run_it_and_what_to_expect(name: str) -> None:
    head = header(RECIPES[name])
    assert head.facts.keys() >= {"command", "hardware"}
    assert "NAME" not in head.text()
    if name in NAMES + CHEAPLY:
        assert head.facts.keys() >= {"number", "open"}
        assert f" {name} " in head.facts["command"]
        assert ("hours" in head.facts) != ("time" in head.facts)
        assert re.match(r"[1-9]\d* (minutes )?\(.+\)", duration(name)), "how long, and where the figure comes from"
        assert re.match(r"([\d.]+ (linear|supervised|finetuned)|not known) \(.+\)", head.facts["number"]), (
            "a number, and its source"
        )
    else:
        assert head.facts.keys() >= {"time", "expected"}


@pytest.mark.parametrize("name", NAMES + CHEAPLY)
def test_hours_and_minutes_equal_their_formula(name: str) -> None:
    """Minutes are stated if they are fewer than 60."""
    told, minutes, formula = re.match(r"(\d+) (minutes )?\(([^;)]+)", duration(name)).groups()  # type: ignore[union-attr]
    if formula == "published":
        return
    for words, number in _WORDS.items():
        formula = formula.replace(words, number)
    found = 1.0
    for factor in formula.split(" x "):
        first, *divisors = map(float, factor.split("/"))
        found *= first / math.prod(divisors)
    assert abs(found - int(told)) <= 0.51, f"{found:.1f}"
    assert found < 59.5 if minutes else found > 0.99


@pytest.mark.parametrize("name", RECIPES)
def test_headers_name_settings_that_the_recipe_has(name: str) -> None:
    """A remark on recipes with hard views names settings that those without have not."""
    named = [word.replace("-", "_") for word in re.findall(r"--([a-z]+\.[\w.-]*\w)", header(RECIPES[name]).text())]
    settings = flatten(RECIPES[name]())
    strategies = [setting for setting in named if setting.startswith("strategy.")]
    assert all(setting in settings for setting in named if setting not in strategies)
    if "HardViews" in in_short(RECIPES[name]().strategy):
        assert not strategies or any(setting in settings for setting in strategies), strategies


def test_each_recipe_on_hard_views_has_a_cheap_form_that_differs_in_its_choice_alone() -> None:
    assert [f"{name}_cheap" for name in NAMES if name.endswith("_hvs")] == CHEAPLY
    settings = ("size", "candidates", "score", "noise", "local_candidates", "limit")
    for name in CHEAPLY:
        made, exact = (flatten(RECIPES[which]()) for which in (name, name.removesuffix("_cheap")))
        other = {key for key in made | exact if made.get(key) != exact.get(key)}
        assert {key.rpartition(".")[2] for key in other} <= {"name", *settings}, name
        (scored,) = {made[key] for key in made if key.endswith("strategy.size") or key.endswith("links.0.size")}
        assert str(scored) == ("48" if name.startswith(("simsiam", "simclr")) else "64"), name


def test_dino_chooses_cheaply_by_targets() -> None:
    found = HardViews(4, size=64, score="targets", noise="training")
    assert RECIPES["dino_vits16_800_hvs_cheap"]().strategy == found
    assert RECIPES["ibot_vits16_800_hvs_cheap"]().strategy == found
    # Without small views nothing predicts targets but candidates.
    assert RECIPES["ibot_vits16_100_hvs_cheap"]().strategy == HardViews(4, size=64)


def test_only_networks_with_a_last_map_choose_among_twice_as_many_smaller_candidates() -> None:
    method = SimCLRConfig()
    assert cheaper(HardViews(4), method) == HardViews(8, size=48)
    assert cheaper(HardViews(4), method, maps=False) == HardViews(4, size=64)
    assert cheaper(Chain(HardViews(3), CutMix()), method, 32) == Chain(HardViews(6, size=24), CutMix())
    assert cheaper(HardViews(4), VICRegConfig()) == HardViews(4, size=64)


@pytest.mark.parametrize(
    "name",
    [
        *("simsiam_r50_100", "mocov2_r50_200", "dino_vits16_100", "swav_r50_100", "byol_r50_300"),
        *("vicreg_r50_100", "barlowtwins_r50_300"),
    ],
)
def test_the_passes_of_cheap_headers_are_those_counted(name: str) -> None:
    method, recipe = method_of(name), RECIPES[f"{name}_hvs_cheap"]()
    told = float(re.search(r" x ([\d.]+)/", header(RECIPES[recipe.name]).facts["hours"])[1])  # type: ignore[index]
    assert recipe.strategy.passes(method).units == pytest.approx(told, abs=0.051)


def test_names_contain_strategy_and_epochs() -> None:
    for name in NAMES:
        recipe = RECIPES[name]()
        assert f"_{recipe.training.epochs}" in name
        assert ("_hvs" in name) == ("HardViews" in in_short(recipe.strategy)), name
        attacks = name.startswith("hexa") or "moco_hexa" in name or "advprop" in name
        assert attacks == ("Adversarial" in in_short(recipe.strategy)), name


@pytest.mark.parametrize("family", ["byol", "vicreg", "barlowtwins", "swav", "mocov2", "deepclusterv2", "hexa"])
def test_methods_that_hard_views_were_not_published_on_have_each_recipe_with_and_without(family: str) -> None:
    cheap = ("_cheap", "_turns")  # ways to attack for less: others than selections
    mine = {name for name in NAMES if name.startswith(f"{family}_") and not name.endswith(cheap)}
    hard = {name for name in mine if name.endswith("_hvs")}
    assert hard == {f"{name}_hvs" for name in mine - hard}


def test_the_table_has_a_line_for_each() -> None:
    lines = table().splitlines()
    assert lines[0].split() == ["recipe", "method", "backbone", "strategy", "epochs", "published"]
    assert [line.split()[0] for line in lines[1:]] == list(RECIPES)
    found = next(line for line in lines if line.split()[0] == "simsiam_r50_100_hvs")
    assert found.split() == ["simsiam_r50_100_hvs", "SimSiam", "resnet50", "HardViews(4)", "100", "68.98", "linear"]


def test_strategies_are_named_by_their_parts() -> None:
    hexa = Sum((1.0, Clean()), (0.5, CutMix()))
    assert in_short(Chain(HardViews(4), hexa)) == "HardViews(4) > (Clean + CutMix)"


@pytest.mark.parametrize(
    ("strategy", "words"),
    [
        (HardViews(6), "HardViews(6)"),
        (HardViews(4, size=64), "HardViews(4, size=64)"),
        (HardViews(4, colours=False, kinds=("0", "1/class")), "HardViews(4, colours=False, kinds=0+1/class)"),
        (RandomViews(4, every=2), "RandomViews(4, every=2)"),
        (Adversarial(gradient="clean"), "Adversarial(gradient=clean)"),
        (Adversarial(epsilon=4 / 255), "Adversarial(epsilon=0.0157)"),
        (Adversarial(epsilon=2 / 255), "Adversarial"),
        (InTurn(MixUp(alpha=0.8), CutMix(alpha=1.0)), "(MixUp(alpha=0.8) | CutMix)"),
    ],
)
def test_settings_that_differ_from_the_default_are_named(strategy: Strategy, words: str) -> None:
    assert in_short(strategy) == words


def test_the_table_sets_hard_and_cheap_recipes_apart() -> None:
    for cheap in [*CHEAPLY, "hexa_moco_r50_200_cheap", "hexa_moco_r50_800_cheap"]:
        full = cheap.removesuffix("_cheap")
        assert in_short(RECIPES[cheap]().strategy) != in_short(RECIPES[full]().strategy), cheap
    rows = {line.split()[0]: line for line in table().splitlines()}
    assert "  HardViews(8, size=48)  " in rows["simsiam_r50_100_hvs_cheap"]
    assert "  HardViews(4, size=64)  " in rows["mocov2_r50_200_hvs_cheap"]
    assert "score=targets" in rows["dino_vits16_100_hvs_cheap"]
    assert "gradient=clean" in rows["hexa_moco_r50_200_cheap"]


def test_one_recipe_is_shown_with_its_header_what_follows_and_every_value() -> None:
    text = shown("simclr_r50_100")
    for line in (
        "simclr_r50_100: SimCLR, ResNet-50, 100 epochs.",
        "command   hardviews pretrain simclr_r50_100 --data SHARDS --output RUN",
        "number    64.5 linear (google-research/simclr, README)",
        "learning rate  4.8 at its peak, with 4096 images a step",
        "warm-up        10 of 100 epochs",
        "optimizer.learning_rate = 0.3",
        "method.view.jitter.hue = 0.2",
    ):
        assert line in text.splitlines()


def test_the_price_of_choosing_is_shown() -> None:
    """Of SimSiam's (6 + 4) / 6 passes; a recipe without a choice has no such line."""
    assert "passes         1.67 times those of a step without a choice of views" in shown("digits_simsiam").splitlines()
    assert "passes  " not in shown("simclr_r50_100")


def family() -> None:
    """A title
    over two lines.

    A first paragraph.

    hours     3 (as long
              as it takes)
    open      nothing

    A last one.
    """


def test_facts_and_prose_are_separated() -> None:
    head = header(family)
    assert head.title == "A title over two lines."
    assert head.facts == {"hours": "3 (as long as it takes)", "open": "nothing"}
    assert head.prose.startswith("A first paragraph.\n\nA last one.")
