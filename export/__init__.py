"""From a trained model to a bundle on disk, and from a bundle to a running encoder."""
