"""Flow matching: path and loss, solvers, guidance; pure functions."""
