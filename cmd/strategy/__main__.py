"""The strategy pod: `python cmd/strategy`."""

from tickmesh.runtime.host import main

if __name__ == "__main__":
    raise SystemExit(main("strategy"))
