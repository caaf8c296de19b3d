"""One file per attack, one registry."""
