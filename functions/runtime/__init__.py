"""Code that all functions share: settings, channels, group commit, publishing, HTTP responses and log lines."""
