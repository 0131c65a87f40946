"""An answer's text while its tokens come."""

from __future__ import annotations

from inference.engines.in_process.prompts import PromptBuilder

UNFINISHED = "\ufffd"


class TextStream:
    """Turns tokens into text deltas that add up to the text of all tokens; a split character waits for its rest."""

    def __init__(self, prompts: PromptBuilder) -> None:
        self._prompts = prompts
        self._held: list[int] = []

    def push(self, token: int) -> str:
        """The text that can be said now, perhaps none."""
        self._held.append(token)
        text = self._prompts.text(self._held)
        if text.endswith(UNFINISHED):
            return ""
        self._held = []
        return text

    def rest(self) -> str:
        """What was held back, once no token follows."""
        held, self._held = self._held, []
        return self._prompts.text(held) if held else ""
