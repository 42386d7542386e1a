"""Which model is it?"""
