"""R1-Searcher as a library: retrieval, rollouts, rewards, updates, evaluation, statistics."""
