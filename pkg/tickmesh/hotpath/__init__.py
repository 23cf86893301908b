"""The hot path behind one interface: the native half where it is built, else its pure-Python twin.

The twin in ``hotpath.pure`` is the specification. ``HALF`` says which one is in use.
"""

HALF = "pure"
