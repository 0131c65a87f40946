"""A job that failed for a reason its owner should read."""


class RecipeError(RuntimeError):
    """The input was fine, the outcome is not; the message is one sentence that says what to try."""
