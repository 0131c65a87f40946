"""The REST API of datasets, and what every API here is built from."""
