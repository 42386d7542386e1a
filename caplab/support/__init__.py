"""What does everybody need? Errors, files, colours, tables, formats, cores and threads."""

__version__ = "0.2.0"
