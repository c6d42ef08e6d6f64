"""Fixtures of the tests that start programs."""

from tests.integration.programs import apps, collector, peer, start

__all__ = ["apps", "collector", "peer", "start"]
