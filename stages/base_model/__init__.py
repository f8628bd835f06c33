"""The policy that training starts from."""
