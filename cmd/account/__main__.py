"""The account pod: `python cmd/account`."""

from tickmesh.runtime.host import main

if __name__ == "__main__":
    raise SystemExit(main("account"))
