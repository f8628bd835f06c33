"""What an iteration of training is made of: its questions, its keys, its figures, its files. No Prefect here.

``flows.train`` says when each part runs; the parts themselves are in the rooms rollout, reward and update.
"""
