"""Jobs on Modal. The modal package is imported by the first method that needs it, never by the web process."""

from workers.compute.modal.backend import ModalCompute

__all__ = ["ModalCompute"]
