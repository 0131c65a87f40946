"""The REST API of inference, and the rules that hold for every API here."""
