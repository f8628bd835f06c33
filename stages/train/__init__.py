"""Parts of a training iteration: its questions, keys, figures and files. No Prefect here.

``flows.train`` says when each part runs; the parts themselves are in the stages rollout, reward and update.
"""
