"""The built-in reward sets, one file each (``r1_searcher.points.REWARD_SETS``)."""
