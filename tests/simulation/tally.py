"""What many worlds add up to, chunk by chunk."""

from collections import Counter
from dataclasses import dataclass, field
from datetime import timedelta

from tests.simulation.situations import Site, sites_of, situations_of
from tests.simulation.trial import Trial

KEPT_MAX = 20
"""Failures of which everything is kept; of the others, the seed and what broke."""


@dataclass(slots=True)
class OfKind:
    """The worlds of a kind."""

    worlds: int = 0
    cpu_s: float = 0.0
    steps: int = 0
    virtual: timedelta = timedelta()


@dataclass(slots=True)
class Tally:
    """What worlds came to."""

    kinds: dict[str, OfKind] = field(default_factory=dict)
    worlds_with: Counter[str] = field(default_factory=Counter)
    """In how many worlds each situation was met."""
    times: Counter[str] = field(default_factory=Counter)
    """How often each situation was met."""
    sites: dict[Site, Counter[str]] = field(default_factory=dict)
    failures: list[Trial] = field(default_factory=list)
    failed: dict[int, str] = field(default_factory=dict)
    """What broke first, by seed."""

    @property
    def worlds(self) -> int:
        """How many there were."""
        return sum(one.worlds for one in self.kinds.values())

    @property
    def cpu_s(self) -> float:
        """What they took."""
        return sum(one.cpu_s for one in self.kinds.values())

    @property
    def virtual(self) -> timedelta:
        """How long they lasted in their own time."""
        return sum((one.virtual for one in self.kinds.values()), timedelta())

    def add(self, trial: Trial) -> None:
        """One more world."""
        kind = self.kinds.setdefault(trial.drawn.kind.value, OfKind())
        kind.worlds += 1
        kind.cpu_s += trial.cpu_s
        kind.steps += trial.steps
        kind.virtual += trial.virtual
        met = situations_of(trial.sighted)
        self.times.update(met)
        self.worlds_with.update(met.keys())
        self._add_sites(sites_of(trial.sighted))
        if trial.broken:
            self.failed[trial.drawn.seed] = trial.invariants[0]
            self._keep([trial])

    def add_all(self, other: "Tally") -> None:
        """What another process counted."""
        for name, there in other.kinds.items():
            here = self.kinds.setdefault(name, OfKind())
            here.worlds += there.worlds
            here.cpu_s += there.cpu_s
            here.steps += there.steps
            here.virtual += there.virtual
        self.times.update(other.times)
        self.worlds_with.update(other.worlds_with)
        self._add_sites(other.sites)
        self.failed.update(other.failed)
        self._keep(other.failures)

    def _keep(self, trials: list[Trial]) -> None:
        self.failures += trials[: max(0, KEPT_MAX - len(self.failures))]

    def _add_sites(self, sites: dict[Site, Counter[str]]) -> None:
        for site, met in sites.items():
            self.sites.setdefault(site, Counter()).update(met)
