"""Replays a use case's year in cycles of the schedule's length: what would retraining have brought?"""
