"""One account in numbers: positions, balances, P&L, and what the venue says about them: pure."""
