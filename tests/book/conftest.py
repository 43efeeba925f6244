"""The notebooks in samples/ are what editors save, for test_metadata.py to read; they are not run."""

collect_ignore = ["samples"]
