"""Which cells a comparison has, and what of it is resolved before anything runs."""

import json
from collections.abc import Mapping, Sequence
from itertools import product

from musclelora.comparison.method import Method
from musclelora.comparison.record import CLEAN, Cell
from musclelora.defenses.registry import defense_by_name
from musclelora.errors import ConfigError
from musclelora.training.backbone import Backbone
from musclelora.training.presets import resolve_recipe
from musclelora.training.recipes import PURIFY


def grid(
    methods: Sequence[Method],
    attacks: Sequence[str],
    datasets: Sequence[str],
    backbones: Mapping[str, tuple[Backbone, int, str]],
    seeds: Sequence[int],
) -> list[Cell]:
    """Floors before attacks, the first seed of everything before the second of anything.

    `backbones`: the weights, the tokens read of a text, and the preset. A method that no untrusted row reaches has one
    cell per seed: it is its own floor. Raises `ConfigError` for a recipe, defence or setting that does not exist.
    """
    cells = []
    for seed, dataset, name, method in product(seeds, datasets, backbones, methods):
        backbone, max_length, preset = backbones[name]
        if method.defense is not None:
            defense_by_name(method.defense, method.settings)
        recipe = resolve_recipe(method.recipe, preset)
        if recipe.name == PURIFY:
            raise ConfigError(
                "The recipe 'purify' trains on what the scans of a run leave, and a comparison has no such scans: it "
                "would be `none` under another name. Name the defence, which brings its own: `- purify`, or `defense: "
                "purify` with its settings."
            )
        alone = recipe.train_on == "trusted"
        cells += [
            Cell(
                method=method.name,
                recipe=recipe,
                defense=method.defense,
                settings=json.dumps(method.settings, sort_keys=True),
                attack=attack,
                dataset=dataset,
                backbone_name=name,
                backbone=backbone,
                max_length=max_length,
                seed=seed,
            )
            for attack in ([CLEAN] if alone else [CLEAN, *attacks])
        ]
    return cells
