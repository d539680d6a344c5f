"""Deployment: the table of resources, what differs (plan), and making it so (apply)."""
