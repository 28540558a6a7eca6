"""What is deployed, checked as far as files can be: no container engine runs here."""
