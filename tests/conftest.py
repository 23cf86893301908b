"""For all tests: no example of hypothesis is timed, because a busy machine would fail it for nothing."""

from hypothesis import settings

settings.register_profile("tickmesh", deadline=None)
settings.load_profile("tickmesh")
