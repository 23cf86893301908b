"""Every key of the configuration, with its unit, range and the reason for its default.

Read from ``TICKMESH_<SECTION>__<KEY>`` in the environment, over a file (``TICKMESH_CONFIG=FILE``, YAML),
over the defaults. ``tickmesh config`` prints all of it. One section per module, so that a section has one owner.
"""

from tickmesh.settings.load import ENV_PREFIX, load
from tickmesh.settings.root import Settings

__all__ = ["ENV_PREFIX", "Settings", "load"]
