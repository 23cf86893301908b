"""The gateway pod: `python cmd/gateway`."""

from tickmesh.runtime.host import main

if __name__ == "__main__":
    raise SystemExit(main("gateway"))
