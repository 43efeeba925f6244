"""Experiments that train models of the book's own layers: attention sinks (chapter 06), three stacks (chapter 09)."""
