"""What an error of NATS means, in words a person can act on."""

from __future__ import annotations

import asyncio

from nats.js.errors import APIError, NotFoundError

_BY_CODE = {
    10014: "the consumer is not there",
    10023: "JetStream has no resources left for it; raise max_file_store or max_memory_store, or free some",
    10028: "JetStream memory is used up; raise max_memory_store",
    10039: "JetStream is not switched on for this account",
    10047: "JetStream storage is used up; raise max_file_store or free disk space on the NATS server",
    10054: "the message is larger than the stream takes (max_msg_size)",
    10059: "the stream is not there",
    10076: "JetStream is off on that server: not configured, or stopped by an error such as a full disk; see its log",
}
_BY_WORDS = {
    "maximum bytes exceeded": "the stream is full (max_bytes); raise its limit or let its readers catch up",
    "maximum messages exceeded": "the stream is full (max_msgs); raise its limit or let its readers catch up",
    "no space left": "the disk of the NATS server is full; free space there",
}


def explain(error: BaseException) -> str:
    """One clause for ``error``."""
    if isinstance(error, APIError):
        words = str(error.description or "").strip() or type(error).__name__
        if error.err_code in _BY_CODE:
            return f"{_BY_CODE[error.err_code]} ({words})"
        for part, meaning in _BY_WORDS.items():
            if part in words:
                return f"{meaning} ({words})"
        if isinstance(error, NotFoundError):
            return words if words != "NotFoundError" else "it is not there"
        return words
    if isinstance(error, (asyncio.TimeoutError, TimeoutError)):
        return "no answer in time"
    return str(error).removeprefix("nats: ") or type(error).__name__
