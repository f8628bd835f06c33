"""Mixed into vLLM's worker (``worker_extension_cls``): apply the temperature where logits are made.

vLLM reports log-probabilities either of the untempered policy, or after temperature and top-p. A trained policy is
tempered but not cut by top-p, so neither is right; and log-probabilities of given tokens are always untempered. Here
logits leave the model already divided by the temperature, and vLLM samples at temperature 1, so that whatever it
computes is about the tempered policy.

vLLM imports this file in its worker processes, so it imports nothing of the pipeline.
"""

from __future__ import annotations

from typing import Any


class TemperedLogits:
    """Called by ``collective_rpc("temper_logits", args=(temperature,))`` on every rank of an engine."""

    def temper_logits(self, temperature: float) -> None:
        """Divide the model's logits by a temperature from the next step on, in float32; 1 leaves them unchanged."""
        model: Any = self.get_model()  # type: ignore[attr-defined]
        vars(model).pop("compute_logits", None)
        if temperature == 1.0:
            return
        untempered = model.compute_logits

        def compute_logits(*args: Any, **kwargs: Any) -> Any:
            logits = untempered(*args, **kwargs)
            return None if logits is None else logits.float() / temperature  # None: not this rank's work

        model.compute_logits = compute_logits
