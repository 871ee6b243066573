"""DeepIndex: images as words of codebooks in an inverted index (Liu 2018, chapter 4).

The path of an image: `pyramid` cuts it into patches, an encoder describes them, `projection` shortens the features,
`codebook` turns them into words, `building` writes words and signatures to an index, `index` opens it, `search` asks
it; `graph` is the same search for an export.
"""
