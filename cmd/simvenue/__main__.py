"""The simvenue pod: `python cmd/simvenue`."""

from tickmesh.runtime.host import main

if __name__ == "__main__":
    raise SystemExit(main("simvenue"))
