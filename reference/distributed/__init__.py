"""What more than one process needs: who they are, the model shared out, its checkpoints, a text split among them."""
