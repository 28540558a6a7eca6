"""Two instances under load while they and their broker are killed and stopped; then the accounts are checked."""
