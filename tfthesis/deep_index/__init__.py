"""DeepIndex as a method: data, model, evaluation, export; the index itself is `tfthesis.inverted_index`."""
