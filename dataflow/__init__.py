"""The archive pipeline: every record, label and dead letter as durable JSON in Cloud Storage."""
