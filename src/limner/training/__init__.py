"""Training: one trainer for every objective, budgets, checkpoints, tracking, the report."""
