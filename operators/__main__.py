"""``python operators``: the Kubernetes operator of one namespace."""

import asyncio
import logging
import sys
from pathlib import Path

import kopf
import uvloop

sys.path.insert(0, str(Path(__file__).parent))
import handlers

from tickmesh.domain.errors import ConfigError
from tickmesh.observe import logs
from tickmesh.settings import load


def main() -> int:
    """Run until SIGTERM."""
    try:
        settings = load()
    except ConfigError as error:
        print(f"operator: {error}", file=sys.stderr)
        return 2
    if settings.operator.webhook_port:
        import admission  # noqa: F401 - registers its handler
    logs.set_up("operator", settings.observe.log_level, settings.observe.log_format)
    logging.getLogger("httpx2").setLevel(logging.WARNING)  # a line per request is no news
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(kopf.operator(namespaces=[settings.operator.namespace], standalone=True, memo=handlers.Memo()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
