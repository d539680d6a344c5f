"""Cloud Pub/Sub on one machine: topics, subscriptions, pull, streaming pull and push."""
