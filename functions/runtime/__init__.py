"""What the functions share: settings, channels, the group commit, publishing, answers, log lines."""
