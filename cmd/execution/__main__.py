"""The execution pod: `python cmd/execution`."""

from tickmesh.runtime.host import main

if __name__ == "__main__":
    raise SystemExit(main("execution"))
