"""Drawn screenshots with known answers: source datasets for trying the platform without anybody's data."""
