"""All attacks by name."""

from musclelora.attacks.addsent import ADDSENT
from musclelora.attacks.badnets import BADNETS
from musclelora.attacks.base import Attack
from musclelora.attacks.composite import COMPOSITE
from musclelora.attacks.hiddenkiller import HIDDEN_KILLER
from musclelora.attacks.homoglyphs import HOMOGLYPHS
from musclelora.attacks.invisible import INVISIBLE
from musclelora.attacks.positional import POSITIONAL
from musclelora.attacks.punctuation import PUNCTUATION
from musclelora.attacks.style import STYLE_BKD
from musclelora.attacks.substitution import SUBSTITUTION
from musclelora.errors import ConfigError, did_you_mean

_ALL = (
    ADDSENT,
    BADNETS,
    COMPOSITE,
    HIDDEN_KILLER,
    HOMOGLYPHS,
    INVISIBLE,
    POSITIONAL,
    PUNCTUATION,
    STYLE_BKD,
    SUBSTITUTION,
)
ATTACKS: dict[str, Attack] = {attack.name: attack for attack in _ALL}


def attack_by_name(name: str) -> Attack:
    """The attack; raises `ConfigError` for an unknown name."""
    if name not in ATTACKS:
        raise ConfigError(f"There is no attack {name!r}. {did_you_mean(name, ATTACKS)}")
    return ATTACKS[name]
