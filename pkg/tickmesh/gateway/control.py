"""Commands: a person's word in, a Control and an Audit message out. One action stops, two resume."""

from __future__ import annotations

import re
import secrets

import msgspec

from tickmesh.domain import subjects
from tickmesh.domain.messages import Audit, Control, encode
from tickmesh.gateway.view import Command, ConfirmationNeeded
from tickmesh.ports import Bus, Clock

CONFIRM_WITHIN_S = 60.0
_MAX_PENDING = 100
_MAX_TEXT = 500
_SCOPE = re.compile(r"all|(account|strategy|symbol)\.[A-Za-z0-9_-]{1,80}")
_ALPHABET = "abcdefghjkmnpqrstuvwxyz23456789"
_EXAMPLE = '{"scope": "all", "actor": "you", "reason": "why"}'


def parse(verb: str, payload: bytes) -> Command:
    """Check the body of a command ``verb``; raises ValueError with one sentence."""
    try:
        command = msgspec.json.decode(payload, type=Command)
    except msgspec.ValidationError as error:
        raise ValueError(f"the body is wrong ({error}); it should be like {_EXAMPLE}") from None
    except msgspec.DecodeError:
        raise ValueError(f"the body must be JSON like {_EXAMPLE}") from None
    if not _SCOPE.fullmatch(command.scope):
        raise ValueError("scope must be all, account.NAME, strategy.NAME or symbol.NAME")
    if not command.actor.strip():
        raise ValueError("actor must say who you are")
    if len(command.actor) > _MAX_TEXT or len(command.reason) > _MAX_TEXT:
        raise ValueError(f"actor and reason must each be at most {_MAX_TEXT} characters")
    if command.flatten and verb != "halt":
        raise ValueError(f"flatten closes positions and goes with halt only, not with {verb}")
    return command


class Commands:
    """Sends commands; holds the confirmations that resumes wait for."""

    def __init__(self, bus: Bus, clock: Clock) -> None:
        self._bus = bus
        self._clock = clock
        self._pending: dict[str, tuple[str, str, int]] = {}

    async def send(self, verb: str, command: Command) -> None:
        """Publish durably, then audit; raises DependencyError when the stream did not take it."""
        now_ns = self._clock.wall_ns()
        message_id = secrets.token_hex(8)
        arguments = {"flatten": "true"} if command.flatten else {}
        control = Control(
            verb=verb, scope=command.scope, reason=command.reason, actor=command.actor, publish_ns=now_ns,
            arguments=arguments,
        )  # fmt: skip
        await self._bus.publish_durable(
            subjects.control(verb, command.scope), encode(control), message_id=f"ctl-{message_id}"
        )
        audit = Audit(
            source="gateway", event=verb, actor=command.actor, publish_ns=now_ns,
            detail={"scope": command.scope, "reason": command.reason, **arguments},
        )  # fmt: skip
        await self._bus.publish_durable(subjects.audit("gateway"), encode(audit), message_id=f"audit-{message_id}")

    async def resume(self, command: Command) -> ConfirmationNeeded | None:
        """The first call answers with a word that the second one brings back; None when it was sent."""
        now_ns = self._clock.mono_ns()
        self._pending = {word: held for word, held in self._pending.items() if held[2] > now_ns}
        if not command.confirm:
            if len(self._pending) >= _MAX_PENDING:
                raise ValueError("too many resumes wait for their confirmation; wait a minute")
            word = "".join(secrets.choice(_ALPHABET) for _ in range(8))
            self._pending[word] = (command.scope, command.actor, now_ns + int(CONFIRM_WITHIN_S * 1e9))
            return ConfirmationNeeded(confirm=word, scope=command.scope, within_s=CONFIRM_WITHIN_S)
        if self._pending.get(command.confirm, ("", "", 0))[:2] != (command.scope, command.actor):
            raise ValueError("this confirmation is unknown, too old or for another scope; ask for a new one")
        await self.send("resume", command)
        # Only now: a resume that could not be stored may be tried again with the same word.
        self._pending.pop(command.confirm, None)
        return None
