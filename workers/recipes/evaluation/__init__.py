"""What the evaluate recipe is made of."""
