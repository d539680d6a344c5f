"""Replays a use case's real data through a system deployed on this machine, and reports what happened."""
