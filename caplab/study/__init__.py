"""What did many runs show? Sweeps, the atlas of their results, and claims measured on it."""
