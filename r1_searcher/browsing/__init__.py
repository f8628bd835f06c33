"""`r1-searcher browse`: a local page over rollouts, rewards, advantages, evaluations and curves."""
