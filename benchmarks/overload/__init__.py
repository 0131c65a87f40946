"""Many more clients than the engine has places for: who is refused, how soon, and who waits for whom."""
