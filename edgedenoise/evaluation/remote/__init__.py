"""Run commands on other devices over SSH, and bring their results back."""
