"""What is it asked, what is it taught? Exams, and the synthetic world with its task."""
