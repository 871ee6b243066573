"""Speed of the library, measured side by side."""
