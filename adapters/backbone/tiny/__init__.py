"""The tiny base: Qwen3-VL's own classes in small, and the script that builds it from nothing."""
