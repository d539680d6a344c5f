"""Datastore: entities and their property indexes in SQLite, transactions, compare-and-set, queries."""
