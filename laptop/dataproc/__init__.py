"""Dataproc: workflow templates, run as real Spark processes one step after the other on this machine."""
