"""Keys of the hot path, which has two halves."""

from __future__ import annotations

from tickmesh.settings.key import Section, key


class HotpathSettings(Section):
    require: str = key(
        "any",
        "Which half of the hot path a service must run on to start at all: any, or native for Live trading, so that "
        "nothing ever falls back to the pure-Python one, about 20 times slower, by accident.",
        pattern="^(any|native)$",
    )
