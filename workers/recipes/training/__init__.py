"""What the train recipe is made of."""
