"""SavedModel writer."""
