"""The operators inside other people's models. Nothing else in reference/ imports from here."""
