"""Orders from approval to their end: the state machine, what is known of each order, budgets, the halt latch."""
