"""What the code knows of the book: its chapters (`manifest`) and the text that it trains on (`corpus`)."""
