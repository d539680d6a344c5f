"""The Spark jobs of a training cycle: convert, train, evaluate. See ``template.yaml`` for how they are chained."""
