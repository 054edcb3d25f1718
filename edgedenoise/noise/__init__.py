"""Camera noise: synthesis of realistic noise and estimation of its level."""
