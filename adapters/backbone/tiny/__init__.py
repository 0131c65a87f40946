"""The tiny base: Qwen3-VL's own classes in small, and how it is built from nothing."""
