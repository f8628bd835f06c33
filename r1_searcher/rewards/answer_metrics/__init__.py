"""The answer metrics that ship, a file each (``r1_searcher.points.ANSWER_METRICS``)."""
