"""Cloud Storage's JSON API: objects are plain files, so that Spark on the same machine reads and writes them too."""
