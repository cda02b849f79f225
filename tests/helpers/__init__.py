"""What several tests build upon: small networks, toy costs, random keeps, made-up data."""
