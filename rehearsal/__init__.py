"""The life of a deployment, rehearsed without an account: on the laptop's servers, and recording ones for the rest."""
