"""Engines: what answers a request. One folder or file an engine, all behind `base.Engine`; no Django here."""
