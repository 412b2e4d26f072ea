"""A broken invariant, as a sentence."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Violation:
    """What did not hold."""

    invariant: str
    """`I16`; `I0` is a bug that surfaced as an error."""
    sentence: str
    """What it is about, with both numbers."""

    def __str__(self) -> str:
        return f"{self.invariant}: {self.sentence}"


class Found(list[Violation]):
    """Violations, in the order in which they were met; one that is met again is not repeated."""

    def say(self, invariant: str, sentence: str) -> None:
        """Note one."""
        violation = Violation(invariant, sentence)
        if violation not in self:
            self.append(violation)
