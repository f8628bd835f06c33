"""The built-in answer metrics, one file each (``r1_searcher.points.ANSWER_METRICS``)."""
