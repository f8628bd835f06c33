"""Advantage estimators by name (``update.estimator``), one file each."""
