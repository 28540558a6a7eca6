"""What people like: contracts, profiles, interests, ranking and explanations. Knows no Kafka and no torch."""
