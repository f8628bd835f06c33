"""A Lucene index that Anserini or Pyserini built, searched by Anserini itself in a Java inside this process."""
