"""Training a model on text: documents to batches, the loop, and checkpoints from which it resumes."""
