"""The synchroniser's rules live with the hot path's twins; this is the name under which the book's room has them."""

from __future__ import annotations

from tickmesh.hotpath.pure.synchroniser import MAX_BUFFERED, Diff, Outcome, Synchroniser

__all__ = ["MAX_BUFFERED", "Diff", "Outcome", "Synchroniser"]
