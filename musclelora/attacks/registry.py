"""All attacks by name."""

from musclelora.attacks.addsent import ADDSENT
from musclelora.attacks.badnets import BADNETS
from musclelora.attacks.base import Attack
from musclelora.errors import ConfigError, did_you_mean

ATTACKS: dict[str, Attack] = {attack.name: attack for attack in (ADDSENT, BADNETS)}


def attack_by_name(name: str) -> Attack:
    """The attack; raises `ConfigError` for an unknown name."""
    if name not in ATTACKS:
        raise ConfigError(f"There is no attack {name!r}. {did_you_mean(name, ATTACKS)}")
    return ATTACKS[name]
