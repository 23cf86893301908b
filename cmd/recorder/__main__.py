"""The recorder pod: `python cmd/recorder`."""

from tickmesh.runtime.host import main

if __name__ == "__main__":
    raise SystemExit(main("recorder"))
