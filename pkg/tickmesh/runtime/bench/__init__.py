"""``tickmesh bench``: the referee of every claim about speed. Figures are medians and p99 of one run on one machine."""
