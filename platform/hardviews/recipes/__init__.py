"""Recipes: functions that return a complete configuration. A new one is a function and a line here."""

import difflib
from collections.abc import Callable

from hardviews.errors import UserError
from hardviews.recipes import byol, deepclusterv2, digits, dino, hexa, ibot, mocov2, photos, simclr, simsiam, swav
from hardviews.recipes.smoke import smoke
from hardviews.train.recipe import Recipe

#: Recipes for small data, on a CPU.
SMALL: tuple[Callable[[], Recipe], ...] = (
    digits.digits,
    digits.digits_simsiam,
    digits.digits_byol,
    digits.digits_moco,
    digits.digits_swav,
    digits.digits_deepcluster,
    digits.digits_dino,
    digits.digits_ibot,
    digits.digits_hexa_moco,
    digits.digits_hexa_dcluster,
    smoke,
    photos.photos,
    photos.photos_simsiam,
    photos.photos_byol,
    photos.photos_swav,
    photos.photos_dino,
    photos.photos_ibot,
    photos.photos_moco,
    photos.photos_deepcluster,
    photos.photos_hexa_moco,
    photos.photos_hexa_dcluster,
)

#: Recipes for ImageNet as published, each plain and with hard views.
IMAGENET: tuple[Callable[[], Recipe], ...] = (
    simsiam.simsiam_r50_100,
    simsiam.simsiam_r50_200,
    simsiam.simsiam_r50_100_hvs,
    simsiam.simsiam_r50_200_hvs,
    simclr.simclr_r50_100,
    simclr.simclr_r50_1000,
    simclr.simclr_r50_100_hvs,
    simclr.simclr_r50_1000_hvs,
    byol.byol_r50_300,
    byol.byol_r50_1000,
    byol.byol_r50_300_hvs,
    byol.byol_r50_1000_hvs,
    swav.swav_r50_100,
    swav.swav_r50_200,
    swav.swav_r50_400,
    swav.swav_r50_800,
    swav.swav_r50_400_2x224,
    swav.swav_r50_200_bs256,
    swav.swav_r50_400_bs256,
    swav.swav_r50_100_hvs,
    swav.swav_r50_200_hvs,
    swav.swav_r50_400_hvs,
    swav.swav_r50_800_hvs,
    swav.swav_r50_400_2x224_hvs,
    swav.swav_r50_200_bs256_hvs,
    swav.swav_r50_400_bs256_hvs,
    dino.dino_vits16_100,
    dino.dino_vits16_300,
    dino.dino_vits16_300_boosted,
    dino.dino_vits16_800,
    dino.dino_vitb16_400,
    dino.dino_vits16_100_hvs,
    dino.dino_vits16_300_hvs,
    dino.dino_vits16_300_boosted_hvs,
    dino.dino_vits16_800_hvs,
    dino.dino_vitb16_400_hvs,
    ibot.ibot_vits16_100,
    ibot.ibot_vits16_800,
    ibot.ibot_vits16_100_hvs,
    ibot.ibot_vits16_800_hvs,
    mocov2.mocov2_r50_200,
    mocov2.mocov2_r50_800,
    mocov2.mocov2_r50_200_hvs,
    mocov2.mocov2_r50_800_hvs,
    deepclusterv2.deepclusterv2_r50_200,
    deepclusterv2.deepclusterv2_r50_400,
    deepclusterv2.deepclusterv2_r50_400_2x224,
    deepclusterv2.deepclusterv2_r50_800,
    deepclusterv2.deepclusterv2_r50_200_hvs,
    deepclusterv2.deepclusterv2_r50_400_hvs,
    deepclusterv2.deepclusterv2_r50_400_2x224_hvs,
    deepclusterv2.deepclusterv2_r50_800_hvs,
    hexa.hexa_moco_r50_200,
    hexa.hexa_moco_r50_800,
    hexa.hexa_moco_r50_200_hvs,
    hexa.hexa_moco_r50_800_hvs,
    hexa.hexa_moco_r50_200_cheap,
    hexa.hexa_moco_r50_800_cheap,
    hexa.hexa_moco_r50_200_turns,
    hexa.hexa_moco_r50_800_turns,
    hexa.hexa_dcluster_r50_200,
    hexa.hexa_dcluster_r50_800,
    hexa.hexa_dcluster_r50_200_hvs,
    hexa.hexa_dcluster_r50_800_hvs,
)

#: Every recipe by its name, which is its function's.
RECIPES: dict[str, Callable[[], Recipe]] = {function.__name__: function for function in SMALL + IMAGENET}


def recipe_named(name: str) -> Recipe:
    """Return the recipe of that name.

    Raises:
        UserError: there is none.
    """
    if name not in RECIPES:
        close = difflib.get_close_matches(name, RECIPES, n=1)
        hint = f" Did you mean {close[0]}?" if close else ""
        raise UserError(f"There is no recipe {name!r}.{hint} `hardviews recipes` lists them all.")
    return RECIPES[name]()
