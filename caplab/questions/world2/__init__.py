"""World 2: what the second pocket model is told, what it is asked, and the jobs it can learn."""
