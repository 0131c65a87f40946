"""The rule by which one stack takes the place of another."""
