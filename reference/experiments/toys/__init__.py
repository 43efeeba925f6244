"""Studies that train toy models, many side by side: which mixer learns which task (chapter 10)."""
