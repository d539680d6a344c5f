"""The operator's side of Lunation: deploy, query, retrain. ``python -m lunation --help`` is the way in."""
