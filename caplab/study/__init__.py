"""What did many runs show?"""
