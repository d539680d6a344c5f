"""Classification over HTTP and from Pub/Sub, against a function that does nothing, other servers and the usual way."""
