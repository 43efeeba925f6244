"""Experiments that train nothing: capacity, constructions by hand, precision, reused prefixes (chapter 10)."""
