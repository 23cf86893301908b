"""The risk pod: `python cmd/risk`."""

from tickmesh.runtime.host import main

if __name__ == "__main__":
    raise SystemExit(main("risk"))
