"""What did many runs show? Sweeps, the atlas, and the claims that it decides."""
