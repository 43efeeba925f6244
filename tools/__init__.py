"""How the book is made: commands, notebooks, working copies, the site. A package, so that no other `tools` hides it."""
