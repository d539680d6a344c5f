"""What the system says of itself: log lines in Cloud Logging's form, and counters and gauges
that OpenTelemetry exports.

Shared by the functions, the archive pipeline and the Spark jobs, and shipped with each. Importing it needs nothing but
the standard library; OpenTelemetry's SDK is loaded when something is exported, never while an instance starts.
"""
