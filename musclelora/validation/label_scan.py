"""One label of the group scan (group_scan.py): the limit of honest labels for its clusters, and growth from them."""

from dataclasses import dataclass, replace

import numpy as np
from joblib import Parallel, delayed
from scipy.sparse import csr_matrix, diags
from scipy.special import expit
from sklearn.linear_model import LogisticRegression

from musclelora.seeding import derived_seed, generator
from musclelora.validation.config import GroupScanConfig
from musclelora.validation.found_group import Carriers, Found
from musclelora.validation.honest_limit import limits_of
from musclelora.validation.label_clusters import MIN_CLUSTER, clusters_of, evidence_of, greatest_excess
from musclelora.validation.text_residual import Residual, TextFeatures, cross_fitted, folds_of
from musclelora.validation.token_scan import MIN_EFFECT, effect_of

LEAST_EXCESS = 0.2  # below that, honest threads and authors exceed what honest draws show
LEAST_EFFECT = 3.0  # of a group's rows 1 - 1 / effect have the label for its trigger (attributable fraction)
NEAR_TOP = 2 / 3  # clusters with this share of the greatest excess are taken together: parts of one poison
GROWTH_STEPS = 5
FINE_PENALTY = 0.1  # L2 of the model that tells a group from other rows
GROWS_FROM, JOINS_FROM = 0.25, 0.5  # of the group's excess, which rows must have that the two growths add
TOGETHER_FROM = 1 / 3  # the same where all finds are grown together
UNSURE = 0.1  # of the label's other rows: those with most suspicion, which the model of a group does not learn from
AFTER_A_FIND = 10  # times the false-alarm rate: who attacked a label once did so in more forms than one look finds
HONEST_WEIGHT = 2.0  # an honest row set aside weighs as much as a poisoned row found
WEIGHTS_TOGETHER = (1.5, 2.0)  # the same where all finds are grown together: learned from what was added, surer rows
SHARED = 2  # features of each kind that describe a group


@dataclass(frozen=True)
class View:
    """What a scan of a label looks at: words count `words` times, and a group must have an `effect`.

    `rate`: the chance of honest rows to exceed the limit, in false-alarm rates; after a find it is `AFTER_A_FIND`.
    """

    words: float
    effect: float
    rate: int


# Words that count twice are shrunk less (the residual has a quarter of what they say), and clusters are purer: of a
# trigger, and of an honest word that the trusted model does not know. But that only leans to a label: in 60 honest
# draws (Rotten Tomatoes) no group had an effect over 14.9: of ten over the limit at most one is there by chance.
VIEWS = (View(words=2.0, effect=MIN_EFFECT, rate=10), View(words=1.0, effect=LEAST_EFFECT, rate=1))


@dataclass(frozen=True)
class _Look:
    """The greatest excess, what honest rows show, the rows grown from it, and what each row has of their trigger.

    `further_limit` is for a label where another look has found something. `carriers` of the trigger, of any label.
    """

    excess: float
    median: float
    limit: float
    further_limit: float
    carriers: Carriers
    new: np.ndarray
    trigger: np.ndarray
    trigger_weights: np.ndarray


class LabelScan:
    """The scan of one label in one view; all masks and values have the shape [rows]."""

    def __init__(
        self,
        features: TextFeatures,
        y: np.ndarray,
        offset: np.ndarray,
        config: GroupScanConfig,
        seed: int,
        name: str,
        view: View = VIEWS[-1],
    ) -> None:
        self.features, self.y, self.offset, self.view = features, y, offset, view
        self.config, self.seed, self.name = config, seed, name
        self.scales = np.where(features.kinds == 0, view.words, 1.0)
        self.x = (features.x @ diags(self.scales)).tocsr()
        self.folds = folds_of(len(y), seed)
        self.residual = cross_fitted(self.x, y, offset, self.folds)

    def groups(self, found_before: np.ndarray | None = None) -> list[Found]:
        """Looks, each on the rows that the former ones left. A look counts if its excess is above the limit of its
        own or a later look: until all of a poison is out, the model of honest labels has learned from the rest.

        `found_before`: rows of the label that another view found.
        """
        looks: list[_Look] = []
        effect = self.view.effect
        set_aside = np.zeros(len(self.y), dtype=bool) if found_before is None else found_before
        attacked = bool(set_aside.any())
        for number in range(self.config.max_groups):
            pending = [look.excess for look in looks if _is_group(look, effect) and look.excess <= look.limit]
            look = self._look(set_aside, number, max(pending, default=0.0))
            if look is None:
                break
            looks.append(look)
            if look.excess <= look.median or not look.new.any():
                break
            set_aside = set_aside | look.new
        limits = [min(look.limit for look in looks[number:]) for number in range(len(looks))]
        grouped = [_is_group(look, effect) for look in looks]
        if not attacked and not any(grouped[i] and look.excess > limits[i] for i, look in enumerate(looks)):
            return []
        lower = [min(look.further_limit for look in looks[number:]) for number in range(len(looks))]
        last = max((i for i, look in enumerate(looks) if grouped[i] and look.excess > lower[i]), default=-1)
        return [
            self._found(look, limits[i] if look.excess > limits[i] else lower[i])
            for i, look in enumerate(looks[: last + 1])
            if look.carriers.effect >= effect and look.new.any()
        ]

    def _look(self, set_aside: np.ndarray, number: int, pending: float) -> _Look | None:
        """`pending`: the greatest excess of the former looks that have a group and are under their limits."""
        alive = np.flatnonzero(~set_aside)
        clusters = clusters_of(*self._of(alive), self.y[alive], self._random(), self.residual.weights)
        if not clusters:
            return None
        top = clusters[0][0]
        group = np.zeros_like(set_aside)
        for excess, rows in clusters:
            if excess >= NEAR_TOP * top:
                group[alive[rows]] = True
        rest = self.residual if not set_aside.any() else self._without(set_aside, self.residual)
        group, without = self._grown(group, rest, set_aside)
        trigger = Residual(rest.values - without.values, rest.weights - without.weights)
        grown = group
        if top > LEAST_EXCESS and group.any():
            grown, trigger = self._refined(group, trigger, rest, set_aside)
        carriers = self._carriers(grown, trigger.values)
        look = _Look(top, LEAST_EXCESS, np.inf, np.inf, carriers, grown, trigger.values, trigger.weights.mean(0))
        if not _is_group(look, self.view.effect) and not pending:
            return look
        median, limit, further = self._honest(group, without, set_aside, number, max(top, pending))
        return replace(look, median=median, limit=limit, further_limit=further)

    def _of(self, rows: np.ndarray) -> tuple[csr_matrix, np.ndarray, np.ndarray]:
        return self.x[rows], self.offset[rows], self.folds[rows]

    def _random(self) -> int:
        return derived_seed(self.seed, "group scan/clusters", self.name) % 2**32

    def _without(self, rows: np.ndarray, near: Residual) -> Residual:
        return cross_fitted(self.x, self.y, self.offset, self.folds, without=rows, start=near.weights)

    def _grown(self, group: np.ndarray, residual: Residual, set_aside: np.ndarray) -> tuple[np.ndarray, Residual]:
        """The group grown, or shrunk, to the rows that carry its trigger, and the residual fitted without them.

        `residual` is that of the rows not `set_aside`, among which the group lies. What growth adds must have a share
        of the clusters' excess, or an honest cluster takes in its subject.
        """
        excess, first, without = self._excess(residual, set_aside), group, residual
        for _ in range(GROWTH_STEPS):
            without = self._without(group | set_aside, without)
            grown = self._with_most(residual.values - without.values, set_aside)
            if (grown == group).all() or _adds_quiet_rows(grown, first, excess, GROWS_FROM):
                break
            group = grown
        return group, without

    def _excess(self, residual: Residual, set_aside: np.ndarray) -> np.ndarray:
        """Of each row, above the label's median of the rows not `set_aside`."""
        evidence = evidence_of(residual.values, self.offset)
        return evidence - np.median(evidence[self.y & ~set_aside])

    def _refined(
        self, group: np.ndarray, trigger: Residual, residual: Residual, set_aside: np.ndarray
    ) -> tuple[np.ndarray, Residual]:
        """The group grown once more, by a model that tells it from all other rows, and what each row has by that model.

        Such a model finds forms of the trigger that few rows share. What the group lacks of the poison is among the
        label's rows with the most excess: learned as honest, it would teach that its own forms are. It would also find
        an honest group's subject: what it adds must have at least half of the group's excess, and the group no less
        than the view's effect if it had that, or the group and its `trigger` stay as they were.
        """
        excess = self._excess(residual, set_aside)
        first = group
        least_effect = min(self._carriers(group, trigger.values).effect, self.view.effect)
        for _ in range(GROWTH_STEPS):
            told = self._told(group, excess, set_aside)
            grown = self._with_most(told.values, set_aside)
            if not grown.any() or _adds_quiet_rows(grown, first, excess, JOINS_FROM):
                break
            if self._carriers(grown, told.values).effect < least_effect:
                break
            settled, group, trigger = bool((grown == group).all()), grown, told
            if settled:
                break
        return group, trigger

    def _told(self, group: np.ndarray, suspicion: np.ndarray, set_aside: np.ndarray) -> Residual:
        """How surely a model of the group tells each row from others; of the label's other rows with the most suspicion
        it learns nothing."""
        none = np.zeros(len(group))
        others = self.y & ~group & ~set_aside
        unsure = others & (suspicion > np.quantile(suspicion[others], 1 - UNSURE)) if others.any() else others
        return cross_fitted(self.x, group, none, self.folds, without=set_aside | unsure, penalty=FINE_PENALTY)

    def together(self, found: np.ndarray) -> np.ndarray:
        """The rows `found` by all looks of all views, and those that one model of all of them tells from the others.

        A look learns from its own rows alone, as if the former ones had never been there: of a trigger with many forms
        each knows a part. This model learns twice, the second time without the other rows that it itself holds for
        poison. Then it learns from what it added too, but only once, and takes surer rows: from its own finds it would
        learn honest subjects before long. All must have the effect together, and what joins a share of the excess.
        """
        none = np.zeros_like(found)
        excess, rows = self._excess(self.residual, none), found
        for weight in WEIGHTS_TOGETHER:
            told = self._told(rows, excess, none)
            told = self._told(rows, told.values, none)
            order, gain = self._gains(told.values, none, weight * (self.y & ~rows).sum())
            rows = rows | self._best(order, np.where(self._holds(order, found, excess), gain, -np.inf))
        return rows

    def _holds(self, order: np.ndarray, found: np.ndarray, excess: np.ndarray) -> np.ndarray:
        """Whether the first n rows have the effect together, and those of the label among them that were not `found` a
        share of the excess of these; for each n."""
        taken, with_label = np.arange(1, len(order) + 1), np.cumsum(self.y[order])
        effect = effect_of(with_label, taken, np.cumsum(expit(self.offset[order])) / taken)
        new = (self.y & ~found)[order]
        of_new = np.cumsum(np.where(new, excess[order] - TOGETHER_FROM * excess[found].mean(), 0.0))
        return (effect >= LEAST_EFFECT) & (of_new >= 0)

    def _with_most(self, trigger: np.ndarray, set_aside: np.ndarray) -> np.ndarray:
        """The label's rows with most of the trigger, as far as a further one is more probably poisoned than honest.

        All of the label's rows count as honest: with fewer the larger the group is, growth would not stop.
        """
        return self._best(*self._gains(trigger, set_aside, HONEST_WEIGHT * (self.y & ~set_aside).sum()))

    def _gains(self, trigger: np.ndarray, set_aside: np.ndarray, honest: float) -> tuple[np.ndarray, np.ndarray]:
        """The rows with most of the trigger first, and what the first n gain: one for each of the label, less what so
        many of the other labels' rows say of the label's `honest` ones."""
        order = np.argsort(-np.where(set_aside, -np.inf, trigger), kind="stable")[: int((~set_aside).sum())]
        return order, np.cumsum(self.y[order]) - honest / (~self.y).sum() * np.cumsum(~self.y[order])

    def _best(self, order: np.ndarray, gain: np.ndarray) -> np.ndarray:
        """The label's rows among the first that gain most; none if all are barred, by minus infinity."""
        best = np.zeros_like(self.y)
        if np.isfinite(gain.max()):
            best[order[: int(np.argmax(gain)) + 1]] = True
        return best & self.y

    def _carriers(self, group: np.ndarray, trigger: np.ndarray) -> Carriers:
        """The group and the rows of other labels with as much of its trigger; without a group none, as any label."""
        if not group.any():
            return Carriers(0, 0.5, 0.5)
        has = group | (~self.y & (trigger >= trigger[group].min()))
        return Carriers(int(has.sum()), float(group.sum() / has.sum()), float(expit(self.offset[has]).mean()))

    def _honest(
        self, group: np.ndarray, without: Residual, set_aside: np.ndarray, number: int, excess: float
    ) -> tuple[float, float, float]:
        """Of the greatest excess where nobody planted anything: median, limit, and limit for a label that was attacked.

        An `excess` under `LEAST_EXCESS` needs no limit: it is infinite.
        """
        if excess <= LEAST_EXCESS:
            return np.inf, np.inf, np.inf
        said = np.column_stack([without.values, self.offset])
        rest = ~group & ~set_aside
        if not self.y[rest].any():  # the group is all that is left of the label: nothing to compare it with
            return np.inf, np.inf, np.inf
        model = LogisticRegression(C=1e6, max_iter=1000).fit(said[rest], self.y[rest])
        probability, alive = model.predict_proba(said)[:, 1], np.flatnonzero(~set_aside)

        x, offset, folds = self._of(alive)

        def drawn(draw: int) -> np.ndarray:
            uniform = generator(self.seed, f"group scan/labels/{self.name}/{number}", str(draw)).random(len(self.y))
            return np.asarray(uniform < probability)[alive]

        def greatest_of(draws: range) -> list[float | None]:
            return Parallel()(delayed(greatest_excess)(x, offset, folds, drawn(draw), self._random()) for draw in draws)

        rates = np.minimum(np.array([self.view.rate, AFTER_A_FIND]) * self.config.false_alarm, 0.5)
        median, limits = limits_of(excess, greatest_of, self.config.redraws, rates)
        limit, further = np.maximum(limits, LEAST_EXCESS).tolist()
        return median, limit, further

    def _found(self, look: _Look, limit: float) -> Found:
        rows = np.flatnonzero(look.new)
        rest = self.y & ~look.new
        lift = (
            np.asarray(self.features.x[rows].mean(0)).ravel()
            - np.asarray(self.features.x[np.flatnonzero(rest)].mean(0)).ravel()
        )
        weight = np.where(lift > 0, lift * look.trigger_weights[:-1], -np.inf)
        strongest = [j for j in np.argsort(-weight, kind="stable") if weight[j] > 0]
        kinds = self.features.kinds
        shared = [j for kind in range(3) for j in [j for j in strongest if kinds[j] == kind][:SHARED]]
        typical = rows[np.argsort(-look.trigger[rows], kind="stable")]
        names = tuple(str(self.features.names[j]) for j in shared)
        least = float(look.trigger[rows].min())
        weights = look.trigger_weights * np.append(self.scales, 1.0)
        return Found(look.excess, limit, look.carriers, names, tuple(typical.tolist()), weights, least)


def _is_group(look: _Look, effect: float) -> bool:
    """With that effect, and of enough rows: of what only its first cluster shared, growth leaves a few."""
    return look.carriers.effect >= effect and int(look.new.sum()) >= MIN_CLUSTER


def _adds_quiet_rows(grown: np.ndarray, first: np.ndarray, excess: np.ndarray, share: float) -> bool:
    """Whether what growth added to the rows it began with has less than that share of their excess."""
    added = grown & ~first
    return bool(added.any() and excess[added].mean() < share * excess[first].mean())
