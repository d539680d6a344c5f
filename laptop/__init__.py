"""Servers that stand in for Google Cloud on one machine. They listen on loopback and speak Google's protocols."""
