"""Replays a use case's year as thirteen cycles of four weeks: what would retraining have brought?"""
