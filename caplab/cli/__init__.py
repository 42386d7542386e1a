"""What do the commands do? They score, gate, sweep and examine a machine from a shell."""
