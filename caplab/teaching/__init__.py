"""What do lessons call? Guesses, quizzes, exercise checks, hints, and the notes they show."""
