"""The reward sets that ship, a file each (``r1_searcher.points.REWARD_SETS``)."""
