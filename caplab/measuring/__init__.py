"""What does it know, and did that change?"""
