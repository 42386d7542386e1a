"""What does everybody need?"""

__version__ = "0.1.0"
