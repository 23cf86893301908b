"""HaltKeeper: the halt latch of this process, its file, and what a latch does to the risk view and open orders.

It works with NATS away: the latch is in this process and in a file, and the admin endpoint sets it. Commands
of the CTL stream come twice, live and from the stream; stopping takes effect from whichever is first, resuming
only from the stream, whose order is certain. A copy in the ``checkpoints`` bucket goes to a successor elsewhere.
A disk that takes nothing more holds no halt up: it acts at once, and is written as soon as there is room.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import msgspec

from tickmesh.domain.enums import RiskState
from tickmesh.domain.errors import DependencyError
from tickmesh.domain.halt import ALL
from tickmesh.domain.messages import Control, decode
from tickmesh.execution.halt import HaltLatch, HaltState, merge
from tickmesh.execution.machine import OrderMachine
from tickmesh.ports import Bus, DurableMessage
from tickmesh.risk.halt import reopen, show
from tickmesh.risk.view import RiskView

log = logging.getLogger(__name__)

_BUCKET = "checkpoints"


class HaltKeeper:
    """One per process; ``cancel`` is called with a predicate of the orders that a new latch ends."""

    def __init__(
        self, account: str, path: Path, view: RiskView, cancel: Callable[[Callable[[OrderMachine], bool]], None]
    ) -> None:
        self._account = account
        self._path = path
        self._view = view
        self._cancel = cancel
        self._key = f"execution.halt.{account}"
        self._shared = b""
        self._unsaved = False
        self.latch = HaltLatch(account, _load(path))
        self.flatten: Callable[[str], None] = lambda scope: None
        """Called with each scope that is to hold nothing; ``flattened`` when it does."""
        self.picture: Callable[[], object] = dict
        """What is open and held, kept beside the latch when something is halted."""
        self._show()

    async def restore(self, bus: Bus) -> None:
        """Begin with what the former writer of the account had latched, and with what was commanded since.

        Raises:
            DependencyError: the bucket or the stream cannot be read; nobody may trade before they were.
        """
        entry = await (await bus.kv(_BUCKET)).get(self._key)
        if entry is not None and entry.value:
            try:
                theirs = msgspec.json.decode(entry.value, type=HaltState)
            except msgspec.MsgspecError as error:
                log.error("the halts of the former writer cannot be read (%s); the CTL stream has what was said", error)
            else:
                self.latch.state = merge(self.latch.state, theirs)
        async for _, payload, seq in bus.replay("CTL", start_seq=self.latch.state.ctl_seq + 1):
            control = _decode(payload)
            if control is not None:
                self.latch.apply(control, seq)
        self._save()
        self._show()

    async def catch_up(self, bus: Bus) -> None:
        """Take every command that is in the stream by now, before the consumer brings it.

        Raises:
            DependencyError: the stream cannot be read.
        """
        async for _, payload, seq in bus.replay("CTL", start_seq=self.latch.state.ctl_seq + 1):
            control = _decode(payload)
            if control is not None:
                self.apply(control, seq)

    async def share(self, bus: Bus) -> None:
        """Leave what is latched to a successor on another machine; when it fails, tried again at the next call.

        What the disk did not take is tried again as well.
        """
        if self._unsaved:
            self._save()
        picture = msgspec.json.encode(self.latch.state)
        if picture == self._shared:
            return
        try:
            await (await bus.kv(_BUCKET)).put(self._key, picture)
            self._shared = picture
        except DependencyError as error:
            log.warning("what is halted could not be shared: %s", error)

    def on_live(self, subject: str, payload: bytes) -> None:
        """A command as it is published: only those that stop."""
        control = _decode(payload)
        if control is not None and control.verb in ("halt", "reduce"):
            self.apply(control)

    async def on_stored(self, message: DurableMessage) -> None:
        """The same from the CTL stream, in order."""
        control = _decode(message.data)
        if control is None:
            await message.term()
            return
        self.apply(control, message.stream_seq)
        await message.ack()

    def halt(self, reason: str, actor: str, now_ns: int, *, scope: str = "", flatten: bool = False) -> None:
        """Stop ``scope``, else this account, now and without NATS; ``flatten`` also closes what it holds."""
        scope = scope or f"account.{self._account}"
        arguments = {"flatten": "true"} if flatten else {}
        self.apply(
            Control(verb="halt", scope=scope, reason=reason, actor=actor, publish_ns=now_ns, arguments=arguments)
        )

    def flattened(self, scope: str) -> None:
        """The scope holds nothing, or cannot be told apart: not to be tried again."""
        state = self.latch.state
        state.flatten = [other for other in state.flatten if other != scope]
        self._save()

    def to_flatten(self, scope: str) -> bool:
        """Whether ``scope`` is still halted and still to be flattened."""
        return scope in self.latch.state.flatten

    def apply(self, control: Control, ctl_seq: int = 0) -> None:
        """Take a command and keep it; new latches cancel what they end."""
        before = self.latch.state.ctl_seq
        changed = self.latch.apply(control, ctl_seq)
        if changed or self.latch.state.ctl_seq != before:
            self._save()
        if not changed:
            return
        log.warning("%s %s by %s: %s", control.verb, control.scope, control.actor or "unknown", control.reason)
        self._show()
        if control.verb == "halt":
            self._keep_picture()
        if control.verb == "resume":
            reopen(self._view, control)
        else:
            self._cancel(
                lambda order: order.in_scope(control.scope) and (control.verb == "halt" or not order.reduce_only)
            )
        if self.to_flatten(control.scope):
            self.flatten(control.scope)

    def cancel_latched(self) -> None:
        """Cancel what a latch ends and a former life left open."""
        for scope, latched in self.latch.state.scopes.items():
            if latched.state is RiskState.HALTED:
                self._cancel(lambda order, scope=scope: order.in_scope(scope))  # type: ignore[misc]
        for scope in list(self.latch.state.flatten):
            self.flatten(scope)

    def _keep_picture(self) -> None:
        path = self._path.with_suffix("").with_suffix(".emergency.json")
        try:
            _write(path, msgspec.json.encode(self.picture()))
        except OSError as error:
            log.error("what was open and held when it halted cannot be written to %s (%s)", path, error)

    def _save(self) -> None:
        """Keep the latch in its file, now or at a later ``share``; nothing that stops may wait for the disk."""
        try:
            _write(self._path, msgspec.json.encode(self.latch.state))
        except OSError as error:
            if not self._unsaved:
                log.error(
                    "what is halted cannot be written to %s (%s); it holds in this process, but free the disk before "
                    "a restart", self._path, error,
                )  # fmt: skip
            self._unsaved = True
        else:
            self._unsaved = False

    def _show(self) -> None:
        show(self.latch.state.scopes, self._view)


def _decode(payload: bytes) -> Control | None:
    try:
        return decode(Control, payload)
    except msgspec.DecodeError as error:
        log.warning("a control command could not be decoded (%s); it is skipped", error)
        return None


def _load(path: Path) -> HaltState:
    """The latch of the last life; a file that cannot be read counts as halted, for we do not know."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=HaltState)
    except FileNotFoundError:
        return HaltState()
    except (OSError, msgspec.MsgspecError) as error:
        log.error("the halt latch %s cannot be read (%s); everything stays halted until it is resumed", path, error)
        latch = HaltLatch("")
        latch.apply(
            Control(verb="halt", scope=ALL, reason=f"the halt latch could not be read: {error}", actor="execution")
        )
        return latch.state


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_suffix(".new")
    fresh.write_bytes(content)
    fresh.replace(path)
