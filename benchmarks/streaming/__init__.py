"""The question of Structured Streaming: the same model on the same records, by a function and by a streaming job."""
