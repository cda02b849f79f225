"""Many boards, many budgets, one run: cells of a grid that share all that they have in common."""
