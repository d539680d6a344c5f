"""The operator's side of Lunation: deploy, query, retrain. ``lunation --help`` is the way in."""
