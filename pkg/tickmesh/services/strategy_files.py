"""Where Strategy resources come from on one machine: a YAML file, a directory of them, or the built-in example.

In: a path. Out: Seen, every resource by name with the mistakes of the files that cannot be used. A broken file
takes none of its resources away: what it held when it was last good stays.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path

from tickmesh.domain.errors import ConfigError
from tickmesh.strategy.resource import ResourceError, StrategyResource, parse

_SUFFIXES = (".yaml", ".yml")


@dataclass(slots=True)
class Seen:
    """One look at the files."""

    resources: dict[str, StrategyResource] = field(default_factory=dict)
    mistakes: list[str] = field(default_factory=list)


class ResourceFiles:
    """Follows a file or a directory; ``look`` is cheap when nothing changed."""

    def __init__(self, path: str) -> None:
        self._path = Path(path).resolve() if path else None
        self._texts: dict[str, str] = {}
        self._last_read: dict[str, str] | None = None
        self._good: dict[str, list[StrategyResource]] = {}
        self._mistakes: dict[str, str] = {}

    def look(self) -> Seen | None:
        """Read the files; None when they are as they were.

        After the first time, an edit counts when two looks in a row saw it: editors truncate and rename.

        Raises:
            ConfigError: the path itself is not there or cannot be read; what was good stays good.
        """
        texts, before = self._read(), self._last_read
        self._last_read = texts
        if texts == self._texts or (before is not None and texts != before):
            return None
        for name in set(self._texts) - set(texts):
            self._good.pop(name, None)
            self._mistakes.pop(name, None)
        for name, text in texts.items():
            if text == self._texts.get(name):
                continue
            self._mistakes.pop(name, None)
            try:
                self._good[name] = parse(text, name)
            except ResourceError as error:
                self._mistakes[name] = str(error)
        self._texts = texts
        return self._seen()

    @property
    def present(self) -> Seen:
        """What the last look that counted saw."""
        return self._seen()

    def _seen(self) -> Seen:
        seen = Seen(mistakes=list(self._mistakes.values()))
        for name in sorted(self._good):
            for resource in self._good[name]:
                other = seen.resources.get(resource.name)
                if other is not None:
                    seen.mistakes.append(f"{name}: metadata.name: {resource.name} is defined in {other.file} already")
                else:
                    seen.resources[resource.name] = resource
        return seen

    def _read(self) -> dict[str, str]:
        """Text by file name.

        Raises:
            ConfigError: the path itself is not there or cannot be listed.
        """
        path = self._path
        if path is None:
            built_in = resources.files("tickmesh.strategy.resources").joinpath("default.yaml")
            return {str(built_in): built_in.read_text(encoding="utf-8")}
        try:
            if not path.is_dir():
                return {str(path): path.read_text(encoding="utf-8")}
            files = sorted(f for f in path.iterdir() if f.suffix in _SUFFIXES and not f.name.startswith("."))
            return {str(f): f.read_text(encoding="utf-8") for f in files}
        except FileNotFoundError:
            raise ConfigError(
                f"there is no strategy file or directory {path}; set TICKMESH_STRATEGY__RESOURCES"
            ) from None
        except OSError as error:
            raise ConfigError(f"cannot read the strategy resources {path}: {error.strerror}") from None
        except UnicodeDecodeError:
            raise ConfigError(f"the strategy resources {path} are not UTF-8 text") from None
