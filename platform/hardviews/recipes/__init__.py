"""Recipes: functions that return a complete configuration. A new one is a function and a line here."""

import difflib
from collections.abc import Callable

from hardviews.errors import UserError
from hardviews.recipes import (
    barlowtwins,
    byol,
    deepclusterv2,
    digits,
    dino,
    finetune,
    hexa,
    ibot,
    joint,
    mocov2,
    photos,
    simclr,
    simsiam,
    supervised,
    swav,
    vicreg,
)
from hardviews.recipes.cheap import cheap
from hardviews.recipes.smoke import smoke
from hardviews.train.recipe import Recipe

#: Recipes for small data, on a CPU.
SMALL: tuple[Callable[[], Recipe], ...] = (
    digits.digits,
    digits.digits_simsiam,
    digits.digits_byol,
    digits.digits_moco,
    digits.digits_vicreg,
    digits.digits_barlowtwins,
    digits.digits_swav,
    digits.digits_deepcluster,
    digits.digits_dino,
    digits.digits_ibot,
    digits.digits_supervised,
    joint.digits_joint,
    finetune.digits_finetune,
    finetune.photos_finetune,
    digits.digits_hexa_moco,
    digits.digits_hexa_dcluster,
    smoke,
    photos.photos,
    photos.photos_simsiam,
    photos.photos_byol,
    photos.photos_vicreg,
    photos.photos_barlowtwins,
    photos.photos_swav,
    photos.photos_dino,
    photos.photos_ibot,
    photos.photos_moco,
    photos.photos_supervised,
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
    vicreg.vicreg_r50_100,
    vicreg.vicreg_r50_1000,
    vicreg.vicreg_r50_100_hvs,
    vicreg.vicreg_r50_1000_hvs,
    barlowtwins.barlowtwins_r50_300,
    barlowtwins.barlowtwins_r50_1000,
    barlowtwins.barlowtwins_r50_300_hvs,
    barlowtwins.barlowtwins_r50_1000_hvs,
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
    supervised.supervised_r50_90,
    supervised.supervised_r50_300,
    supervised.supervised_r50_300_cutmix,
    supervised.supervised_r50_90_hvs,
    supervised.supervised_r50_90_advprop,
    joint.joint_simclr_r50_100,
    joint.joint_simclr_r50_100_hvs,
    joint.joint_moco_hexa_r50_200,
    finetune.finetune_simclr_r50_60,
    finetune.finetune_simclr_r50_30,
    finetune.finetune_swav_r50_20_1pct,
    finetune.finetune_swav_r50_20_10pct,
    finetune.finetune_byol_r50_50,
    finetune.finetune_hexa_r50_20,
    finetune.finetune_dino_vits16_200,
    finetune.finetune_mae_vitb16_100,
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

#: The recipes on hard views, chosen cheaply: passes of a step, and those of the exact choice.
CHEAP: tuple[Callable[[], Recipe], ...] = tuple(
    cheap(exact, passes, exactly)
    for exact, passes, exactly in (
        (simsiam.simsiam_r50_100_hvs, 6.4, 10),
        (simsiam.simsiam_r50_200_hvs, 6.4, 10),
        (simclr.simclr_r50_100_hvs, 6.4, 10),
        (simclr.simclr_r50_1000_hvs, 6.4, 10),
        (byol.byol_r50_300_hvs, 8.7, 16),
        (byol.byol_r50_1000_hvs, 8.7, 16),
        (vicreg.vicreg_r50_100_hvs, 6.3, 10),
        (vicreg.vicreg_r50_1000_hvs, 6.3, 10),
        (barlowtwins.barlowtwins_r50_300_hvs, 6.3, 10),
        (barlowtwins.barlowtwins_r50_1000_hvs, 6.3, 10),
        (swav.swav_r50_100_hvs, 9.6, 13.3),
        (swav.swav_r50_200_hvs, 9.6, 13.3),
        (swav.swav_r50_400_hvs, 9.6, 13.3),
        (swav.swav_r50_800_hvs, 9.6, 13.3),
        (swav.swav_r50_400_2x224_hvs, 6.3, 10),
        (swav.swav_r50_200_bs256_hvs, 9.6, 13.3),
        (swav.swav_r50_400_bs256_hvs, 9.6, 13.3),
        (dino.dino_vits16_100_hvs, 12.5, 19.6),
        (dino.dino_vits16_300_hvs, 12.5, 19.6),
        (dino.dino_vits16_300_boosted_hvs, 12.5, 19.6),
        (dino.dino_vits16_800_hvs, 13.6, 22.1),
        (dino.dino_vitb16_400_hvs, 13.6, 20.7),
        (ibot.ibot_vits16_100_hvs, 8.6, 14),
        (ibot.ibot_vits16_800_hvs, 13.6, 22.8),
        (mocov2.mocov2_r50_200_hvs, 4.7, 12),
        (mocov2.mocov2_r50_800_hvs, 4.7, 12),
        (deepclusterv2.deepclusterv2_r50_200_hvs, 11.6, 13.3),
        (deepclusterv2.deepclusterv2_r50_400_hvs, 6.7, 7.3),
        (deepclusterv2.deepclusterv2_r50_400_2x224_hvs, 8.3, 10),
        (deepclusterv2.deepclusterv2_r50_800_hvs, 11.6, 13.3),
        (supervised.supervised_r50_90_hvs, 3.3, 7),
        (joint.joint_simclr_r50_100_hvs, 6.3, 10),
        (hexa.hexa_moco_r50_200_hvs, 12.7, 20),
        (hexa.hexa_moco_r50_800_hvs, 12.7, 20),
        (hexa.hexa_dcluster_r50_200_hvs, 27.6, 29.3),
        (hexa.hexa_dcluster_r50_800_hvs, 27.6, 29.3),
    )
)

#: Every recipe by its name, which is its function's.
RECIPES: dict[str, Callable[[], Recipe]] = {function.__name__: function for function in SMALL + IMAGENET + CHEAP}


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
