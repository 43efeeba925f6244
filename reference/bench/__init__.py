"""Speed and memory, measured side by side in one run: `python -m reference bench`. Never part of a test."""
