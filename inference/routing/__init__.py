"""Pure functions of routing: the trie of allowed names, their scores, and the tool call in an answer."""
