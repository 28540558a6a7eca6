"""Everything that touches the stream and the process: settings, Kafka, the loop, metrics, the command line."""
