"""The engine on Modal, and what both its ends agree on."""
