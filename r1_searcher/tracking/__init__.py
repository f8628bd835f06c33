"""Trackers: a training run's figures in TensorBoard, Weights & Biases, MLflow, Trackio or a tracker of the user's own.

Training appends its figures to a journal, and one process per tracker reads it. So a tracker can neither change nor
stop training, whatever it loads, prints, waits for or raises.
"""
