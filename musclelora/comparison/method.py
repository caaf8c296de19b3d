"""What is compared: a recipe, alone or behind a baseline defence."""

from typing import Any

from pydantic import Field, model_validator

from musclelora.frozen import Frozen
from musclelora.training.recipes import PARTS, PURIFY, RecipeChoice

NAME = r"^[a-z0-9][a-z0-9._+-]{0,39}$"  # part of the names of steps, files and runs


class Method(Frozen):
    """A recipe, and the defence before or after it. A bare name in a config is a recipe, or else a defence.

    A defence acts on the recipe `none`, so that all defences are trained alike. `purify` is a defence here: the recipe
    of that name needs the scans of a run.
    """

    name: str = Field("", pattern=NAME, description="in the tables; empty = that of the defence, else of the recipe")
    recipe: RecipeChoice = Field(RecipeChoice(name="none"), description="a section as in a run")
    defense: str | None = Field(None, description="a defence of docs/defenses.md")
    settings: dict[str, Any] = Field({}, description="of the defence, where they are to differ from its own")

    @model_validator(mode="before")
    @classmethod
    def _from_name(cls, given: Any) -> Any:
        if isinstance(given, str):
            given = {"recipe": {"name": given}} if given in PARTS and given != PURIFY else {"defense": given}
        if not isinstance(given, dict) or given.get("name"):
            return given
        recipe = given.get("recipe", {"name": "none"})
        named = recipe.get("name") if isinstance(recipe, dict) else getattr(recipe, "name", None)
        return {**given, "name": given.get("defense") or named or ""}

    @model_validator(mode="after")
    def _settings_need_a_defense(self) -> "Method":
        if self.settings and self.defense is None:
            raise ValueError("`settings` are those of a defence: name it under `defense`, or put them into `recipe`.")
        return self
