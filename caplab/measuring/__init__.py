"""What does it know, and did that change? Scores, and the verdict on two of them."""
