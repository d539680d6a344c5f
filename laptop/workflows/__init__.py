"""Workflows and Executions: the language, interpreted with its step history, and resumed after a crash."""
