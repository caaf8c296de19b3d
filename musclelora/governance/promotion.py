"""Which version is challenger, champion, previous champion: every move is a line of the ledger first.

A move reads the ledger, checks the version, writes the next line, and only then sets tags and aliases, the champion's
last. Of two moves at once one gets the line; the other is told, and has moved nothing. Aliases always follow the last
line, so whoever is killed in between leaves the champion that was, or the new one; the next move completes the work.
"""

from collections.abc import Callable
from datetime import datetime, timezone
from typing import Literal

from musclelora.errors import RegistryError
from musclelora.governance.ledger import ALIASES, CHALLENGER, CHAMPION, PREVIOUS_CHAMPION, LedgerEntry
from musclelora.governance.ledger_store import LedgerStore
from musclelora.governance.manifest import Verified
from musclelora.governance.tracking import mlflow_errors
from musclelora.governance.verification import verify_version
from musclelora.governance.waiver import check_waivers

# A line can be lost to a move that does not touch the champion (a registration); then the next is tried.
_ATTEMPTS = 100

Action = Literal["challenge", "promote", "rollback"]
Aliases = dict[str, str]


def challenge(name: str, version: str, tracking_uri: str, verified: Verified) -> Aliases:
    """Make a version that was just registered, and verified then, the challenger. Returns all aliases of the model.

    Raises `RegistryError` for a version that is not accepted.
    """
    with mlflow_errors(tracking_uri, f"make {name!r} version {version} the challenger"):
        ledger = LedgerStore(tracking_uri, name)
        return _move(ledger, "challenge", version, verified, lambda now: {**now, CHALLENGER: version})


def promote(name: str, version: str, tracking_uri: str, verified: Verified | None = None) -> Aliases:
    """Make an accepted version the champion; the champion so far becomes `previous_champion`. Returns all aliases.

    The version is fetched and verified first, unless it was just now. Raises `RegistryError` for one that is not
    accepted and ready, and where another champion was made meanwhile; `ModelError` for one that was altered;
    `LedgerError` where the ledger was. Nothing has moved then.
    """
    with mlflow_errors(tracking_uri, f"promote {name!r} version {version}"):
        ledger = LedgerStore(tracking_uri, name)
        champion = aliases_of(ledger, ledger.read()).get(CHAMPION)
        verified = verified or verify_version(name, version, tracking_uri)

        _check_comparison(champion, name, version, verified)

        def after(now: Aliases) -> Aliases:
            _expect(champion, now, name, f"Version {version} was not promoted")
            if champion in {None, version}:
                return {**now, CHAMPION: version}
            return {**now, CHAMPION: version, PREVIOUS_CHAMPION: str(champion)}

        return _move(ledger, "promote", version, verified, after)


def rollback(name: str, tracking_uri: str) -> Aliases:
    """Make the previous champion the champion again, once it is verified anew; the two change places.

    Raises `RegistryError` where there is no previous champion or another was made meanwhile, `ModelError` where the old
    version was altered, `LedgerError` where the ledger was. Nothing has moved then.
    """
    with mlflow_errors(tracking_uri, f"roll {name!r} back"):
        ledger = LedgerStore(tracking_uri, name)
        aliases = aliases_of(ledger, ledger.read())
        champion, former = aliases.get(CHAMPION), aliases.get(PREVIOUS_CHAMPION)
        if champion is None or former is None:
            raise RegistryError(
                f"{name!r} cannot be rolled back: it has no previous champion. Promote another version by its number."
            )
        verified = verify_version(name, former, tracking_uri)

        def after(now: Aliases) -> Aliases:
            _expect(champion, now, name, f"Version {former} was not brought back")
            return {**now, CHAMPION: former, PREVIOUS_CHAMPION: champion}

        return _move(ledger, "rollback", former, verified, after)


def aliases_of(ledger: LedgerStore, chain: list[LedgerEntry]) -> Aliases:
    """The aliases that the last line says; those of MLflow for a model that was promoted before there was a ledger."""
    if chain:
        return dict(chain[-1].aliases)
    current = ledger.client.get_registered_model(ledger.model).aliases
    return {alias: str(current[alias]) for alias in ALIASES if alias in current}


def _expect(champion: str | None, now: Aliases, name: str, refusal: str) -> None:
    if now.get(CHAMPION) != champion:
        raise RegistryError(
            f"{refusal}: the champion of {name!r} was {_version(champion)} when this began, and "
            f"{_version(now.get(CHAMPION))} now. Another promotion came first. Look at it, and decide again."
        )


def _check_comparison(champion: str | None, name: str, version: str, verified: Verified) -> None:
    """An acceptance that rests on a comparison with the champion says nothing about a champion made since."""
    compared = verified.champion
    if compared is None or champion in {version, compared.version}:
        return
    raise RegistryError(
        f"Version {version} of {name!r} was not promoted: its policy asks for a comparison with the champion. That was "
        f"made with {_version(compared.version)}, and the champion is {_version(champion)} now. Run the pipeline again."
    )


def _move(
    ledger: LedgerStore, action: Action, version: str, verified: Verified, after: Callable[[Aliases], Aliases]
) -> Aliases:
    """Write the line, then let the aliases follow. `after` gives the new aliases, or raises."""
    decision = verified.decision.decision
    if decision != "accepted":
        raise RegistryError(
            f"{ledger.model!r} version {version} gets no alias: its gate decision is {decision!r}. Only an accepted "
            "version may; see its reasons, train and register again."
        )
    ledger.create()
    _check_waivers(ledger, version, verified)
    for _ in range(_ATTEMPTS):
        chain = ledger.read()
        now = aliases_of(ledger, chain)
        wanted = after(now)
        if chain and wanted == now:
            break  # nothing new to say; the aliases may still have to follow
        if ledger.append(
            chain,
            action=action,
            version=version,
            decision=decision,
            manifest_sha256=verified.manifest_sha256,
            aliases=wanted,
        ):
            break
    else:
        raise RegistryError(f"The ledger of {ledger.model!r} is written to without pause: try again in a minute.")
    _follow(ledger)
    ledger.publish()
    return wanted


def _check_waivers(ledger: LedgerStore, version: str, verified: Verified) -> None:
    """A clock that was set back does not revive a waiver: it is not earlier than the newest thing on record."""
    decision = verified.decision
    if not decision.waivers:
        return
    created = ledger.client.get_model_version(ledger.model, version).creation_timestamp  # ms, by the server's clock
    seen = [datetime.now(timezone.utc), datetime.fromtimestamp(created / 1000, timezone.utc)]
    seen += [datetime.fromisoformat(entry.time) for entry in ledger.read()]
    check_waivers(decision.waivers, decision.policy.waiver_keys, ledger.model, max(seen))


def _follow(ledger: LedgerStore) -> None:
    """Set the aliases that the last line says, until no newer line came while this was done."""
    while True:
        chain = ledger.read()
        ledger.tag(chain[-1])
        current = ledger.client.get_registered_model(ledger.model).aliases
        for alias in ALIASES:
            version = chain[-1].aliases.get(alias)
            if version is not None and str(current.get(alias)) != version:
                ledger.client.set_registered_model_alias(ledger.model, alias, version)
        if len(ledger.lines()) == len(chain):
            return


def _version(version: str | None) -> str:
    return "none" if version is None else f"version {version}"
