"""The feed pod: `python cmd/feed`."""

from tickmesh.runtime.host import main

if __name__ == "__main__":
    raise SystemExit(main("feed"))
