"""Background flow of simvenue: the replay of a capture, or a synthetic market calibrated to one."""
