"""Gate: permission to call one dependency, and what became of the call; a circuit breaker as its callers see it."""

from __future__ import annotations

from typing import Protocol


class Gate(Protocol):
    """Ask before a call, then tell its result with the ticket that came with the permission."""

    @property
    def shut(self) -> bool:
        """Whether it is open or held open: nothing should be called, and what is connected should part."""
        ...

    def enter(self) -> int | None:
        """A ticket, or None: do not call now."""
        ...

    def success(self, ticket: int) -> None:
        """The dependency did what it should; an answer that says no is that too."""
        ...

    def failure(self, ticket: int, reason: str) -> None:
        """The dependency failed: no answer, a broken connection, an error of its own."""
        ...

    def neutral(self, ticket: int) -> None:
        """The call says nothing about the dependency."""
        ...


class NoGate:
    """Lets everything through."""

    shut = False

    def enter(self) -> int | None:
        return 0

    def success(self, ticket: int) -> None: ...

    def failure(self, ticket: int, reason: str) -> None: ...

    def neutral(self, ticket: int) -> None: ...
