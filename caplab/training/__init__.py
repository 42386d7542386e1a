"""How is a model tuned, and repaired?"""
