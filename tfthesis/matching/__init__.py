"""What the image-text methods share: embedding, evaluation, served functions and pictures.

A matching model has inputs `image` and `text` (features) and layers named `image_embedding` and
`text_embedding`, whose L2-normalised outputs are compared by the cosine. A model that also classifies
has a layer named `logits`.
"""
