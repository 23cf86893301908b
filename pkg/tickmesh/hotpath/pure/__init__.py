"""Pure-Python halves of the hot path: the specification of the native crate."""
